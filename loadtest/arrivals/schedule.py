"""When requests arrive: schedules fixed before a run, so that a slow server cannot slow the load down."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.shapes import Profile

LEAST_DUE = 0.1
"""A load with fewer requests on average is a slip of the pen; with more, one without any is bad luck."""


class NothingDueError(ValueError):
    """No request is due: there would be nothing to judge."""

    def __init__(self, profile: Profile) -> None:
        """Say of what load that is so."""
        super().__init__(
            f"no request is due: {profile.mean_rps:g} a second for {profile.seconds:g} s are {profile.expected:.2g} on "
            "average; a higher --rate or a longer run is needed"
        )


def poisson(rate_rps: float, count: int, seed: int | Sequence[int]) -> NDArray[np.float64]:
    """Instants of a Poisson process, float64 [count], seconds from the start of the run, increasing.

    Raises:
        ValueError: the rate is not positive or the count is negative.
    """
    if rate_rps <= 0 or count < 0:
        raise ValueError(f"rate_rps must be > 0 and count >= 0, got {rate_rps} and {count}")
    gaps = np.random.default_rng(seed).exponential(1 / rate_rps, count)
    return np.asarray(np.cumsum(gaps), np.float64)


def arrivals(profile: Profile, seed: int | Sequence[int]) -> NDArray[np.float64]:
    """Instants of the Poisson process whose rate follows the profile, float64 [N], increasing, within its length.

    A process of rate 1 is mapped through the inverse of the expected number of arrivals so far (time rescaling).
    """
    expected = profile.expected
    # Eight standard deviations above the mean: enough arrivals to fill the time, whatever the seed.
    unit = poisson(1.0, int(expected + 8 * np.sqrt(expected) + 8), seed)
    return profile.instant_of(unit[unit < expected])


def some_arrivals(profile: Profile, seed: int) -> NDArray[np.float64]:
    """`arrivals`, at least one: where there is none by chance, those of another seed.

    Raises:
        NothingDueError: less than `LEAST_DUE` are due on average.
    """
    check_due(profile)
    made, salt = arrivals(profile, seed), 0
    while not len(made):
        salt += 1
        made = arrivals(profile, (seed, salt))
    return made


def check_due(profile: Profile) -> None:
    """`NothingDueError` if less than `LEAST_DUE` requests are due on average."""
    if profile.expected < LEAST_DUE:
        raise NothingDueError(profile)


def digest_of(schedule_s: NDArray[np.float64]) -> str:
    """sha256 in hex over the instants in whole microseconds: runs with equal digests sent at the same ones."""
    return hashlib.sha256(np.round(schedule_s * 1e6).astype("<i8").tobytes()).hexdigest()
