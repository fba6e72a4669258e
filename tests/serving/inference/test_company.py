"""When short calls wait for company, on a clock of its own."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.estimates import Estimates, Outlook
from serving.inference.company import SEEN, Company, Span

MOST_S = 0.003
FIXED_S, PER_ROW_S, TAIL_S = 0.0015, 0.000002, 0.001
NEVER = float("inf")


class Exact(Outlook):
    """Of a cost that is known to the last row."""

    def most(self, p99_s: float, mean_s: float = NEVER) -> int:  # noqa: ARG002 as its base
        return int(round((mean_s - FIXED_S) / PER_ROW_S, 6))


class Line(Estimates):
    """A known cost: 1.5 ms and 2 us per candidate; the p99 is 1 ms above."""

    def __init__(self) -> None:
        super().__init__(200, 0.002)

    def mean_s(self, candidates: int) -> float:
        return self.outlook().mean_s(candidates)

    def outlook(self) -> Outlook:
        return Exact(FIXED_S, PER_ROW_S, above_s=TAIL_S)


AFTER_ROWS, TOGETHER_ROWS = 750, 2250


def company(every_s: float | None = None, until_s: float = 1.0, linger_s: float = MOST_S) -> Company:
    """One that has seen requests of 200 come every so often until that instant."""
    made = Company(Line(), linger_s)
    for back in reversed(range(SEEN if every_s is not None else 0)):
        made.came(200, until_s - back * (every_s or 0.0))
    return made


def ask(
    made: Company, waiting: int = 200, late_s: float = NEVER, now_s: float = 1.0, running: Iterable[Span] = ()
) -> float | None:
    return made.until_s(running, waiting, late_s, now_s)


def test_alone_it_goes_at_once() -> None:
    assert ask(company()) is None


@pytest.mark.parametrize(
    ("every_s", "share"), [(0.01, 0.0), (0.004, 0.0), (0.002, 0.6), (0.0014, 1.0), (0.0001, 1.0), (0.0, 1.0)]
)
def test_the_thicker_they_come_the_longer_it_lingers(every_s: float, share: float) -> None:
    made = company(every_s)
    assert made.linger_s(1.0) == pytest.approx(share * MOST_S, abs=1e-12)
    made.began(200, 0.9999)
    expected = 0.9999 + share * MOST_S
    assert ask(made) == (pytest.approx(expected) if expected > 1.0 else None)


def test_a_pause_ends_it() -> None:
    made = company(0.0005)
    assert made.linger_s(1.0) == MOST_S
    assert made.linger_s(1.1) == 0.0


def test_without_leave_to_linger_there_is_none() -> None:
    made = company(0.0005, linger_s=0.0)
    made.began(200, 1.0)
    assert ask(made) is None


@pytest.mark.parametrize(("waiting", "held"), [(AFTER_ROWS, True), (AFTER_ROWS + 1, False)])
def test_a_short_call_is_waited_for_by_those_it_would_save_half(waiting: int, held: bool) -> None:
    running = Span(200, 0.999, 1.001, 0.004)
    for made in (company(0.0028), company(linger_s=0.0)):
        assert ask(made, waiting, running=[running]) == (1.001 if held else None)
        assert ask(made, waiting, running=[Span(AFTER_ROWS + 1, 0.999, 1.001, 0.004)]) is None


def test_where_requests_come_thin_the_other_call_is_quicker() -> None:
    assert ask(company(0.01), running=[Span(200, 0.999, 1.001, 0.004)]) is None


def test_no_overdue_call_and_none_whose_tail_makes_late_is_waited_for() -> None:
    assert ask(company(0.0028), running=[Span(200, 0.99, 0.9999, 0.002)]) is None
    assert ask(company(0.0028), late_s=1.0029, running=[Span(200, 0.999, 1.001, 0.004)]) is None


@pytest.mark.parametrize(("waiting", "held"), [(TOGETHER_ROWS, True), (TOGETHER_ROWS + 1, False)])
def test_many_candidates_are_company_enough(waiting: int, held: bool) -> None:
    made = company(0.0005)
    made.began(200, 1.0)
    assert (ask(made, waiting) is not None) is held


def test_large_calls_and_large_requests_do_not_count() -> None:
    made = company(0.0005)
    made.began(TOGETHER_ROWS + 1, 1.0)
    assert ask(made) is None
    crowd = Company(Line(), MOST_S)
    for _ in range(SEEN):
        crowd.came(TOGETHER_ROWS + 1, 1.0)
    assert crowd.linger_s(1.0) == 0.0


def test_gathering_ends_where_the_fixed_cost_is_no_more_worth_it() -> None:
    made = company(0.0005, linger_s=0.024)
    assert made.linger_s(1.0) == pytest.approx(4 * FIXED_S)


@given(
    every_s=st.floats(0.0, 0.01),
    began_s=st.floats(0.99, 1.0),
    late_s=st.floats(1.0, 1.02),
    waiting=st.integers(1, 3000),
    ends_s=st.lists(st.floats(0.995, 1.01), max_size=3),
)
def test_nobody_is_made_late(every_s: float, began_s: float, late_s: float, waiting: int, ends_s: list[float]) -> None:
    made = company(every_s)
    made.began(200, began_s)
    running = [Span(200, 0.99, end_s, end_s - 0.99 + 0.001) for end_s in ends_s]
    until_s = ask(made, waiting, late_s, running=running)
    if until_s is not None:
        # Alone it would be late from `late_s` on; together they end, at worst, before its deadline.
        deadline_s = late_s + FIXED_S
        worst_s = max([until_s] + [span.began_s + span.p99_s for span in running if until_s == span.ends_s])
        assert until_s > 1.0
        assert worst_s + FIXED_S + PER_ROW_S * waiting + TAIL_S < deadline_s
