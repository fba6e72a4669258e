import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.verdict.stats import Interval, needed_for, quantile_ranks, ratio_interval, wilson


def test_wilsons_interval_agrees_with_the_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
    interval = wilson(81, 263)
    assert interval.low == pytest.approx(0.2553, abs=1e-4)
    assert interval.high == pytest.approx(0.3662, abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval(pair: tuple[int, int]) -> None:
    hits, count = pair
    made = wilson(hits, count)
    assert 0 <= made.low <= made.value + 1e-12
    assert made.value - 1e-12 <= made.high <= 1
    assert made.low < made.high


@pytest.mark.parametrize(("hits", "count"), [(1, 0), (-1, 5), (6, 5)])
def test_an_impossible_share_is_refused(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match="share"):
        wilson(hits, count)


def test_the_ranks_of_the_median_of_ten_are_those_of_the_sign_test() -> None:
    assert quantile_ranks(10, 0.5) == (2, 9)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_ranks_hold_the_true_quantile_as_often_as_they_say(share: float) -> None:
    draw = np.random.default_rng(0)
    count, held = 800, 0
    low, high = quantile_ranks(count, share)
    for _ in range(600):
        values = np.sort(draw.exponential(size=count))
        truth = -math.log(1 - share)
        above = values[low - 1] <= truth if low >= 1 else True
        held += above and (values[high - 1] >= truth if high <= count else True)
    assert held / 600 >= 0.93


def test_a_sample_that_is_too_small_has_no_upper_bound() -> None:
    needed = needed_for(0.99)
    assert quantile_ranks(needed - 20, 0.99)[1] == needed - 19
    assert quantile_ranks(needed + 20, 0.99)[1] <= needed + 20


def test_the_exact_ranks_and_the_large_ones_agree() -> None:
    exact = quantile_ranks(2_000_000, 0.999)
    normal = quantile_ranks(2_000_001, 0.999)
    assert np.abs(np.array(exact) - np.array(normal)).max() <= 3


def test_a_ratio_of_equal_samples_holds_one_and_of_unequal_ones_does_not() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.exponential(size=2000), draw.exponential(size=2000)
    same = ratio_interval(first, second, lambda sample: float(np.median(sample)), rounds=200)
    assert same.low < 1 < same.high
    twice = ratio_interval(2 * first, second, lambda sample: float(np.median(sample)), rounds=200)
    assert 1.5 < twice.low < twice.value < twice.high < 2.6


def test_infinity_is_null_in_json() -> None:
    assert Interval(1.0, 0.0, math.inf).plain() == {"value": 1.0, "low": 0.0, "high": None}
