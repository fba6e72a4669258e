import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.data.chunks import by_rows, day_of, hour_of

HOUR_MS = 3_600_000


@given(st.integers(0, 100), st.integers(1, 30))
def test_rows_are_covered_once_in_order(count: int, size: int) -> None:
    chunks = list(by_rows(count, size))
    assert [row for chunk in chunks for row in range(count)[chunk]] == list(range(count))
    assert all(chunk.stop - chunk.start == size for chunk in chunks[:-1])


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        by_rows(10, 0)


def test_a_zone_ahead_of_utc_sees_the_next_day_first() -> None:
    times = np.array([15 * HOUR_MS, 16 * HOUR_MS - 1, 16 * HOUR_MS, 23 * HOUR_MS, 24 * HOUR_MS])
    assert day_of(times).tolist() == [0, 0, 0, 0, 1]
    assert day_of(times, 8).tolist() == [0, 0, 1, 1, 1]
    assert hour_of(times, 8).tolist() == [23, 23, 0, 7, 8]


def test_no_rows_no_chunks() -> None:
    assert list(by_rows(0, 5)) == []
