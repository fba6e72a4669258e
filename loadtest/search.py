"""The largest rate that holds. The search knows nothing of servers."""

from collections.abc import Callable

RAISE = 1.25

Holds = Callable[[float, float], bool]
"""`holds(rate_rps, seconds)`: whether a run of that length at that rate is as good as it must be."""


class NoCapacityError(RuntimeError):
    """Not even the least rate holds."""


def find_capacity(
    holds: Holds, first_rps: float, probe_s: float, confirm_s: float, *, precision: float = 0.06, least_rps: float = 2.0
) -> float:
    """Double, bisect by ratio until the bracket is within `precision`, then confirm on a longer run.

    A rate has failed when it failed twice: a machine's hiccup must not make the capacity, and with it all that is
    measured at its multiples, too small. A rate that isn't confirmed is lowered by the precision and tried again; one
    that is confirmed is raised for as long as the longer run holds a quarter above it, too.

    Raises:
        NoCapacityError: the rate fell below `least_rps`.
    """

    def good_at(rate_rps: float, seconds: float = probe_s) -> bool:
        return holds(rate_rps, seconds) or holds(rate_rps, seconds)

    good = bad = first_rps
    if good_at(first_rps):
        while good_at(bad := good * 2):
            good = bad
    else:
        while not good_at(good := bad / 2):
            bad = _at_least(good, least_rps)
    while bad / good > 1 + precision:
        middle = (good * bad) ** 0.5
        if good_at(middle):
            good = middle
        else:
            bad = middle
    while not good_at(good, confirm_s):
        good = _at_least(good / (1 + precision), least_rps)
    while holds(good * RAISE, confirm_s):
        good *= RAISE
    return good


def _at_least(rate_rps: float, least_rps: float) -> float:
    if rate_rps < least_rps:
        raise NoCapacityError(f"not even {least_rps:g} requests per second hold")
    return rate_rps
