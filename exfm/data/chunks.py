"""Cutting time-ordered examples into runs of rows: predict a chunk, score it, then learn it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_MS_PER_HOUR = 3_600_000
_MS_PER_DAY = 24 * _MS_PER_HOUR


def by_rows(count: int, size: int) -> Iterator[slice]:
    """Runs of `size` rows over `count` rows, the last one possibly shorter.

    Raises:
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def day_of(time_ms: NDArray[np.int64], utc_offset_h: float = 0.0) -> NDArray[np.int64]:
    """Days since 1970-01-01 in a zone `utc_offset_h` hours ahead of UTC, int64 [N]."""
    return (time_ms + round(utc_offset_h * _MS_PER_HOUR)) // _MS_PER_DAY


def hour_of(time_ms: NDArray[np.int64], utc_offset_h: float = 0.0) -> NDArray[np.int64]:
    """Hour of the day, 0 to 23, in a zone `utc_offset_h` hours ahead of UTC, int64 [N]."""
    return (time_ms + round(utc_offset_h * _MS_PER_HOUR)) // _MS_PER_HOUR % 24
