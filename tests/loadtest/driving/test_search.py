import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadtest.driving.search import NoCapacityError, find_capacity


@given(st.floats(2.0, 50_000.0), st.floats(1.0, 500.0))
@example(truth=2.0, first=13.0)
@example(truth=3.0, first=13.0)
def test_the_found_rate_holds_and_a_little_more_does_not(truth: float, first: float) -> None:
    found = find_capacity(lambda rate, _: rate <= truth, first, 1.0, 3.0)
    assert found <= truth
    assert found >= truth / (1.06 * 1.06)


def test_one_hiccup_does_not_lower_it() -> None:
    seen: set[float] = set()

    def holds(rate: float, _: float) -> bool:
        first_time = rate not in seen
        seen.add(rate)
        return rate <= 100 and not first_time

    assert find_capacity(holds, 10.0, 1.0, 3.0) == pytest.approx(97, rel=0.04)


def test_a_rate_that_short_runs_flatter_is_lowered_by_the_long_ones() -> None:
    found = find_capacity(lambda rate, seconds: rate <= (100 if seconds < 2 else 60), 10.0, 1.0, 3.0)
    assert 55 <= found <= 60


def test_nothing_holds_but_the_least_rate_was_tried() -> None:
    tried: list[float] = []

    def never(rate: float, _: float) -> bool:
        tried.append(rate)
        return False

    with pytest.raises(NoCapacityError, match="2 requests per second"):
        find_capacity(never, 50.0, 1.0, 3.0)
    assert tried[-2:] == [2.0, 2.0]


def test_the_better_of_two_tries_does_not_confirm_a_rate() -> None:
    flattering = itertools.cycle([False, True, False])

    def holds(rate: float, seconds: float) -> bool:
        return rate <= 60 or (rate <= 100 and (seconds < 2 or next(flattering)))

    assert 55 <= find_capacity(holds, 10.0, 1.0, 3.0) <= 60
