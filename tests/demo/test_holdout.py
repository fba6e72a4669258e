import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.holdout import HoldoutError, first_held_out, holdout_s

HOUR_MS = 3_600_000
START_MS = 1_650_816_000_000


@pytest.mark.parametrize(("hours", "expected_h"), [(240, 6), (24, 6), (12, 3), (1, 0.25)])
def test_six_hours_or_a_quarter_of_a_shorter_log(hours: int, expected_h: float) -> None:
    times = START_MS + np.arange(0, hours * HOUR_MS + 1, HOUR_MS // 4)
    seconds = holdout_s(times)
    assert seconds == expected_h * 3600
    assert times[first_held_out(times, seconds)] == times[-1] - expected_h * HOUR_MS


@given(st.lists(st.integers(0, 10**8), min_size=2, max_size=30, unique=True), st.sampled_from([0, START_MS]))
def test_something_is_left_to_learn_and_something_is_held_out(offsets: list[int], start_ms: int) -> None:
    times = np.array(sorted(offsets), np.int64) + start_ms
    assert 1 <= first_held_out(times, holdout_s(times)) < len(times)


def test_a_log_of_one_instant_is_refused() -> None:
    with pytest.raises(HoldoutError, match="spans no time"):
        holdout_s(np.array([START_MS, START_MS]))
