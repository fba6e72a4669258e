import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.overload.capacity import NoCapacityError, find_capacity


@given(st.floats(5.0, 3000.0))
def test_the_largest_rate_that_holds_is_found_to_the_precision(limit_rps: float) -> None:
    found = find_capacity(lambda rate_rps, _: rate_rps <= limit_rps, first_rps=25.0, probe_s=1.0, confirm_s=2.0)
    assert limit_rps / 1.06 <= found <= limit_rps


def test_what_is_returned_has_held_on_the_long_run() -> None:
    asked: list[tuple[float, float]] = []

    def holds(rate_rps: float, seconds: float) -> bool:
        asked.append((rate_rps, seconds))
        return rate_rps <= (100.0 if seconds == 1.0 else 80.0)

    found = find_capacity(holds, first_rps=25.0, probe_s=1.0, confirm_s=2.0)
    assert 80.0 / 1.06 <= found <= 80.0
    assert (found, 2.0) in asked
    # And a quarter above it has not.
    assert asked[-1] == (found * 1.25, 2.0)


def test_one_hiccup_lowers_nothing() -> None:
    hiccups = iter([50.0, 100.0])
    next_rps = [next(hiccups)]

    def holds(rate_rps: float, _: float) -> bool:
        if next_rps and rate_rps == next_rps[0]:
            next_rps[:] = list(hiccups)[:1]
            return False
        return rate_rps <= 150.0

    assert find_capacity(holds, first_rps=25.0, probe_s=1.0, confirm_s=2.0) > 150.0 / 1.06


def test_a_search_that_was_disturbed_all_along_is_raised_again() -> None:
    calm = iter([False] * 8)
    found = find_capacity(lambda rate_rps, _: next(calm, rate_rps <= 180.0), first_rps=50.0, probe_s=1.0, confirm_s=2.0)
    assert 180.0 / 1.25 <= found <= 180.0


@pytest.mark.parametrize("confirms_only", [False, True])
def test_a_server_that_never_holds_has_no_capacity(confirms_only: bool) -> None:
    with pytest.raises(NoCapacityError, match="not even 2"):
        find_capacity(lambda _, seconds: confirms_only and seconds == 1.0 and _ < 100, 25.0, 1.0, 2.0)
