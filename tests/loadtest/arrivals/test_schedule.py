import numpy as np
import pytest

from loadtest.arrivals.schedule import NothingDueError, arrivals, poisson, some_arrivals
from loadtest.arrivals.shapes import steady


def test_gaps_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    gaps = np.diff(poisson(rate_rps=200, count=20_000, seed=1), prepend=0)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.05)
    assert (gaps > 0).all()


def test_the_seed_decides_the_schedule() -> None:
    assert (poisson(10, 50, seed=3) == poisson(10, 50, seed=3)).all()
    assert (poisson(10, 50, seed=3) != poisson(10, 50, seed=4)).any()


@pytest.mark.parametrize(("rate", "count"), [(0, 1), (-1, 1), (1, -1)])
def test_an_impossible_schedule_is_refused(rate: float, count: int) -> None:
    with pytest.raises(ValueError, match="rate_rps"):
        poisson(rate, count, seed=0)


def test_a_run_that_is_empty_by_chance_is_drawn_again_and_others_are_not() -> None:
    scarce, usual = steady(0.2, 1.0), steady(50.0, 1.0)
    assert sum(len(arrivals(scarce, seed)) == 0 for seed in range(20)) > 10
    assert all(0 < len(some_arrivals(scarce, seed)) < 4 for seed in range(20))
    assert (some_arrivals(usual, 3) == arrivals(usual, 3)).all()


def test_a_load_under_which_nothing_is_due_is_refused() -> None:
    with pytest.raises(NothingDueError, match=r"0.01 a second for 2 s are 0.02 on average; a higher --rate"):
        some_arrivals(steady(0.01, 2.0), 0)
