"""When requests arrive: schedules fixed before a run, so that a slow server cannot slow the load down."""

import numpy as np
from numpy.typing import NDArray


def poisson(rate_rps: float, count: int, seed: int) -> NDArray[np.float64]:
    """Instants of a Poisson process, float64 [count], seconds from the start of the run, increasing.

    Raises:
        ValueError: the rate is not positive or the count is negative.
    """
    if rate_rps <= 0 or count < 0:
        raise ValueError(f"rate_rps must be > 0 and count >= 0, got {rate_rps} and {count}")
    gaps = np.random.default_rng(seed).exponential(1 / rate_rps, count)
    return np.asarray(np.cumsum(gaps), np.float64)
