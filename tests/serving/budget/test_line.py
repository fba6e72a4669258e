import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.line import Line


def test_without_measurements_it_goes_through_the_fixed_points() -> None:
    line = Line((0, 0.001), (64, 0.002))
    assert (line.at(0), line.at(64)) == pytest.approx((0.001, 0.002))


def test_it_finds_the_line_behind_points_of_several_sizes_and_the_next_one_after_it() -> None:
    line = Line((0, 0.001), (64, 0.002))
    for slope, base in ((2e-5, 0.004), (1e-6, 0.001)):
        for index in range(2000):
            size = (50, 200, 1000)[index % 3]
            line.add(size, slope * size + base, index / 100)
        assert line.at(500) == pytest.approx(slope * 500 + base, rel=0.02)


def test_points_of_one_size_are_met_and_the_seed_says_the_rest() -> None:
    line = Line((0, 0.001), (100, 0.002))
    for index in range(1000):
        line.add(100, 0.008, index / 100)
    assert line.at(100) == pytest.approx(0.008, rel=0.03)
    assert 0.0005 < line.at(0) < 0.002


def test_rare_points_forget_by_time() -> None:
    line = Line((0, 0.001), (100, 0.002))
    for index in range(1000):
        line.add(100, 0.020, index / 1000)
    for second in range(4):
        line.add(100, 0.002, 3.0 + second)
    assert line.at(100) < 0.003


@given(st.lists(st.tuples(st.integers(1, 2000), st.floats(-0.05, 1)), max_size=60))
def test_it_never_falls_nor_goes_below_nought(points: list[tuple[int, float]]) -> None:
    line = Line((0, 0.001), (64, 0.002))
    for second, (size, service_s) in enumerate(points):
        line.add(size, service_s, second / 100)
        assert line.slope >= 0
        assert line.base >= 0
