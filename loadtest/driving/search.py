"""The largest rate that holds. The search knows nothing of servers."""

from collections.abc import Callable
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
    hopeless: Callable[[], bool] = lambda: False,
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
        least_rps: below it there is no capacity.
        step: factor from one rate to the next until there is a bracket.
        hopeless: whether the last run failed by more than a hiccup explains; then its rate has failed at once.

    Raises:
        NoCapacityError: the rate fell below `least_rps`.
    """
    too_much = [float("inf")]

    def good_at(rate_rps: float, *, seconds: float = probe_s, wanted: int = 1, allowed: int = 1) -> bool:
        """Whether so many runs hold before more than the allowed ones fail."""
        while wanted and allowed >= 0:
            if holds(rate_rps, seconds):
                wanted -= 1
            elif hopeless():
                too_much.append(rate_rps)
                return False
            else:
                allowed -= 1
        return not wanted

    good = bad = first_rps
    if good_at(first_rps):
        while good_at(bad := good * step):
            good = bad
    else:
        while not good_at(good := bad / step):
            bad = _at_least(good, least_rps)
    while bad / good > 1 + precision:
        middle = (good * bad) ** 0.5
        if good_at(middle):
            good = middle
        else:
            bad = middle
    for fall in chain(FALLS[:-1], repeat(FALLS[-1])):
        if good_at(good, seconds=confirm_s, wanted=2):
            break
        good = _at_least(good / (1 + precision) ** fall, least_rps)
    while good * RAISE < min(too_much) and good_at(good * RAISE, seconds=confirm_s, wanted=2, allowed=0):
        good *= RAISE
    return good


def _at_least(rate_rps: float, least_rps: float) -> float:
    if rate_rps < least_rps:
        raise NoCapacityError(f"not even {least_rps:g} requests per second hold")
    return rate_rps
