"""The end of the log that the published students must not learn, so that requests can be made of it."""

import numpy as np
from numpy.typing import NDArray

MOST_S = 6 * 3600.0
SHARE = 0.25
"""Of a short log's time span: most of it must be left to learn from."""


class HoldoutError(ValueError):
    """The log has no end apart from its beginning: all impressions are of one instant."""


def holdout_s(time_ms: NDArray[np.int64]) -> float:
    """Seconds at the end of a log to hold out: six hours, of a short log a quarter of its time span.

    Args:
        time_ms: int64 [N], ascending, N >= 1.

    Raises:
        HoldoutError: the log spans no time.
    """
    span_s = float(time_ms[-1] - time_ms[0]) / 1e3
    if not span_s:
        raise HoldoutError("the log spans no time, so no end of it can be held out to make requests of")
    return min(MOST_S, span_s * SHARE)


def first_held_out(time_ms: NDArray[np.int64], seconds: float) -> int:
    """The first row of the log's last `seconds`; at least 1 for what `holdout_s` gives."""
    # As the training computes it, so that no rounding puts a row on one side there and on the other here.
    return int(np.searchsorted(time_ms, time_ms[-1] - seconds * 1e3))
