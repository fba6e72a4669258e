import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.reserve import ReplyReserve


def reserve_at(now_s: list[float]) -> ReplyReserve:
    return ReplyReserve(0.002, clock=lambda: now_s[0])


def test_the_floor_holds_until_something_slower_was_seen() -> None:
    reserve = ReplyReserve(0.002)
    assert reserve.of(0.025) == 0.002
    for _ in range(100):
        reserve.observe(0.0001)
    assert reserve.of(0.025) == 0.002


def test_it_learns_what_the_slowest_replies_take_but_for_two_accidents() -> None:
    reserve = reserve_at([0.0])
    for took_s in (0.009, 0.008, *[0.001] * 1000):
        reserve.observe(took_s)
    assert reserve.of(0.025) == 0.002
    reserve.observe(0.004)
    assert reserve.of(0.025) == pytest.approx(0.004 + ReplyReserve.UNSEEN_S)  # the kernel and the caller come behind it


def test_a_caller_that_reads_slowly_is_forgotten_within_seconds() -> None:
    now_s = [0.0]
    reserve = reserve_at(now_s)
    for _ in range(3):
        reserve.observe(0.5)
    assert reserve.of(0.025) == 0.0125
    for index in range(60 * 11):  # 60 replies a second
        now_s[0] = index / 60
        reserve.observe(0.001)
    assert reserve.of(0.025) == 0.002


@given(st.lists(st.floats(0, 1e3), max_size=80), st.floats(0.001, 1))
def test_it_never_takes_more_than_half_of_a_budget(samples: list[float], budget_s: float) -> None:
    reserve = ReplyReserve(0.002)
    for sample in samples:
        reserve.observe(sample)
    assert 0 < reserve.of(budget_s) <= budget_s / 2


def test_half_of_a_tiny_budget() -> None:
    assert ReplyReserve(0.002).of(0.001) == pytest.approx(0.0005)
