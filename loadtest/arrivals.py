"""When requests arrive: schedules fixed before a run, so that a slow server cannot slow the load down."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadtest.shapes import Profile


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
