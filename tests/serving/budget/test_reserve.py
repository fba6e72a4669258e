import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.reserve import ReplyReserve

BUDGET_S = 0.025
AMPLE_S = 0.02


def reserve_at(now_s: list[float]) -> ReplyReserve:
    return ReplyReserve(0.002, clock=lambda: now_s[0])


def observe(reserve: ReplyReserve, *replies_s: float, left_s: float = AMPLE_S) -> None:
    for reply_s in replies_s:
        reserve.observe(reply_s, left_s, BUDGET_S)


def test_the_floor_holds_until_something_slower_was_seen() -> None:
    reserve = ReplyReserve(0.002)
    assert reserve.of(BUDGET_S) == 0.002
    observe(reserve, *[0.0001] * 100)
    assert reserve.of(BUDGET_S) == 0.002


def test_it_learns_what_the_slowest_replies_take_but_for_two_accidents() -> None:
    reserve = reserve_at([0.0])
    observe(reserve, 0.009, 0.008, *[0.001] * 250)
    assert reserve.of(BUDGET_S) == 0.002
    observe(reserve, 0.004)
    # The kernel and the caller come behind it.
    assert reserve.of(BUDGET_S) == pytest.approx(0.004 + ReplyReserve.UNSEEN_S)


@pytest.mark.parametrize(("one_in", "slowest_s"), [(0, 0.004), (100, 0.004), (5, 0.008), (1, 0.009)])
def test_the_more_answers_are_tight_the_fewer_may_overrun_it(one_in: int, slowest_s: float) -> None:
    reserve = reserve_at([0.0])
    for index in range(4000):
        reply_s = 0.009 if index % 2000 < 2 else 0.008 if index % 250 < 2 else 0.004
        observe(reserve, reply_s, left_s=0.0105 - reply_s if one_in and index % one_in == 0 else AMPLE_S)
    assert reserve.of(BUDGET_S) == pytest.approx(slowest_s + ReplyReserve.UNSEEN_S)


def test_so_few_are_late_for_it_as_may_be() -> None:
    reserve = reserve_at([0.0])
    late, answers = 0, 40_000
    for index in range(answers):
        # Any share of the replies takes any time, and one answer in ten begins its reply when the reserve says.
        reply_s, tight = (index * 7919 % 10_000) / 1e6, index % 10 == 3
        left_s = reserve.of(BUDGET_S) if tight else AMPLE_S
        late += reply_s > left_s
        observe(reserve, reply_s, left_s=left_s)
    assert late <= 2 * ReplyReserve.SPARE * answers


def test_a_caller_that_reads_slowly_is_forgotten_within_seconds() -> None:
    now_s = [0.0]
    reserve = reserve_at(now_s)
    observe(reserve, *[0.5] * 3)
    assert reserve.of(BUDGET_S) == 0.0125
    for index in range(60 * 11):  # 60 replies a second
        now_s[0] = index / 60
        observe(reserve, 0.001)
    assert reserve.of(BUDGET_S) == 0.002


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1, 1)), max_size=80), st.floats(0.001, 1))
def test_it_never_takes_more_than_half_of_a_budget(replies: list[tuple[float, float]], budget_s: float) -> None:
    reserve = ReplyReserve(0.002)
    for reply_s, left_s in replies:
        reserve.observe(reply_s, left_s, budget_s)
    assert 0 < reserve.of(budget_s) <= budget_s / 2


def test_half_of_a_tiny_budget() -> None:
    assert ReplyReserve(0.002).of(0.001) == pytest.approx(0.0005)
