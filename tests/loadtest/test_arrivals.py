import numpy as np
import pytest

from loadtest.arrivals import poisson


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
