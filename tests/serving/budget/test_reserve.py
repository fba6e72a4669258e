import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.reserve import ReplyReserve


def test_the_floor_holds_until_something_slower_was_seen() -> None:
    reserve = ReplyReserve(0.002)
    assert reserve.of(0.025) == 0.002
    for _ in range(100):
        reserve.observe(0.0001)
    assert reserve.of(0.025) == 0.002


def test_it_learns_what_the_slowest_replies_take_and_forgets_it_again() -> None:
    reserve = ReplyReserve(0.002, window=100, every=10)
    for index in range(100):
        reserve.observe(0.004 if index % 30 == 0 else 0.001)
    assert reserve.of(0.025) == 0.004
    for _ in range(100):
        reserve.observe(0.001)
    assert reserve.of(0.025) == 0.002


@given(st.lists(st.floats(0, 1e3), max_size=80), st.floats(0.001, 1))
def test_it_never_takes_more_than_half_of_a_budget(samples: list[float], budget_s: float) -> None:
    reserve = ReplyReserve(0.002, every=1)
    for sample in samples:
        reserve.observe(sample)
    assert 0 < reserve.of(budget_s) <= budget_s / 2


def test_half_of_a_tiny_budget() -> None:
    assert ReplyReserve(0.002).of(0.001) == pytest.approx(0.0005)
