"""The largest rate that holds. The search knows nothing of servers."""

from collections.abc import Callable
from functools import partial
from itertools import chain, repeat

RAISE = 1.25
FALLS = (1, 1, 2, 3)
"""By how many times the precision a rate is lowered that isn't confirmed, one time after the other."""

Holds = Callable[[float, float], bool]
"""`holds(rate_rps, seconds)`: whether a run of that length at that rate is as good as it must be."""


class NoCapacityError(RuntimeError):
    """Not even the least rate holds."""


def find_capacity(
    holds: Holds,
    first_rps: float,
    probe_s: float,
    confirm_s: float,
    *,
    precision: float = 0.06,
    least_rps: float = 2.0,
    step: float = 2.0,
) -> float:
    """Go up or down by `step`, bisect by ratio until the bracket is within `precision`, then confirm on longer runs.

    A probe's rate has failed when it failed twice: a machine's hiccup must not make the capacity, and with it all that
    is measured at its multiples, too small. The better of two tries flatters, though, so what the probes have found is
    confirmed by two longer runs of at most three that hold. A rate that isn't confirmed is lowered (`FALLS`) and tried
    again; one that is confirmed is raised for as long as a quarter more holds twice, too.

    Args:
        holds: makes a run.
        first_rps: where to begin.
        probe_s: length of a probe.
        confirm_s: length of a confirming run.
        precision: of the bracket, relative.
        least_rps: the least rate that is tried; if it fails there is no capacity.
        step: factor from one rate to the next until there is a bracket.

    Raises:
        NoCapacityError: not even `least_rps` holds.
    """
    probe, confirm = partial(_good, holds, seconds=probe_s, allowed=1), partial(_good, holds, seconds=confirm_s)
    good, bad = _bracket(probe, first_rps, step, least_rps)
    while bad / good > 1 + precision:
        middle = (good * bad) ** 0.5
        good, bad = (middle, bad) if probe(middle) else (good, middle)
    for fall in chain(FALLS[:-1], repeat(FALLS[-1])):
        if confirm(good, wanted=2, allowed=1):
            break
        good = _lowered(good, (1 + precision) ** fall, least_rps)
    while confirm(good * RAISE, wanted=2, allowed=0):
        good *= RAISE
    return good


def _good(holds: Holds, rate_rps: float, *, seconds: float, wanted: int = 1, allowed: int) -> bool:
    """Whether so many runs hold before more than the allowed ones fail."""
    while wanted and allowed >= 0:
        if holds(rate_rps, seconds):
            wanted -= 1
        else:
            allowed -= 1
    return not wanted


def _bracket(probe: Callable[[float], bool], first_rps: float, step: float, least_rps: float) -> tuple[float, float]:
    """A rate that holds and one, at most `step` times as high, that doesn't."""
    good = bad = first_rps
    if probe(first_rps):
        while probe(bad := good * step):
            good = bad
    else:
        while not probe(good := _lowered(bad, step, least_rps)):
            bad = good
    return good, bad


def _lowered(rate_rps: float, factor: float, least_rps: float) -> float:
    """The rate over the factor, but not less than the least one before that has failed itself."""
    if rate_rps <= least_rps:
        raise NoCapacityError(f"not even {least_rps:g} requests per second hold")
    return max(rate_rps / factor, least_rps)
