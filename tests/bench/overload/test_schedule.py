import numpy as np
import pytest

from bench.overload.schedule import Stream, schedule


def test_streams_are_merged_by_time_and_stay_inside_their_own() -> None:
    planned = schedule([Stream(100, 50.0, 4.0), Stream(2000, 20.0, 2.0, at_s=1.0)], seed=3)
    assert (np.diff(planned.at_s) >= 0).all()
    first, second = (planned.at_s[planned.stream == index] for index in (0, 1))
    assert first.max() < 4.0
    assert second.min() >= 1.0
    assert second.max() < 3.0
    assert set(planned.candidates[planned.stream == 1]) == {2000}
    assert len(first) / 4.0 == pytest.approx(50.0, rel=0.35)


def test_a_stream_lasts_to_its_end() -> None:
    for seed in range(50):
        assert schedule([Stream(1, 200.0, 5.0)], seed).at_s[-1] > 4.9


def test_the_seed_decides() -> None:
    one, same, other = (schedule([Stream(1, 20.0, 2.0)], seed).at_s for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one[:5], other[:5])
