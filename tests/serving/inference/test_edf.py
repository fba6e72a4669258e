"""The queue under any sequence of offers and choices, on a clock that only the test moves."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.inference.edf import Choice, EdfQueue

FIXED_S, EACH_S = 0.001, 0.00001
ROWS = 2000
Step = tuple[str, float, int, bool]


def predict(candidates: int) -> float:
    return FIXED_S + EACH_S * candidates


def names(choice: Choice[str]) -> list[str]:
    return [ticket.item for ticket in choice.batch]


def test_the_earliest_deadline_goes_first_and_ties_go_by_arrival() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    for name, deadline_s in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("soon", 0.5)):
        assert queue.offer(name, deadline_s, 10, [0.0])
    assert names(queue.choose(0.0)) == ["soon", "first", "second", "late"]


def test_how_much_waits_is_told() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert queue.together == (0, 0)
    for name in ("one", "two"):
        queue.offer(name, 1.0, 100, [0.0])
    queue.offer("in the background", 1.0, 50, [0.0], background=True)
    assert queue.together == (2, 200)
    assert queue.offer("past them", 0.0021, 100, None, now_s=0.0)
    assert not queue.offer("hopeless", 0.0019, 100, None, now_s=0.0)


def test_what_would_finish_late_is_refused_at_once() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert not queue.offer("hopeless", 0.0019, 100, [0.0])
    assert queue.offer("just", 0.0021, 100, [0.0])
    assert not queue.offer("the call outstanding ends too late", 0.0021, 100, [0.001])


def test_those_with_earlier_deadlines_count_as_work_ahead_and_the_others_do_not() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert queue.offer("ahead", 0.010, 800, [0.0])
    # One call for both: 1 ms, and 10 ms for 1,000 candidates.
    assert not queue.offer("behind", 0.0105, 200, [0.0])
    assert queue.offer("behind, with a little time", 0.0111, 200, [0.0])
    assert queue.offer("before", 0.0095, 200, [0.0])
    assert queue.start_s(0.0, [0.5, 0.25]) == 0.25


def test_what_does_not_fit_into_the_batch_ahead_waits_for_the_call_that_is_free_next() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=2, most_rows=ROWS)
    for name in "abcde":
        assert queue.offer(name, 1.0, 100, [0.0, 0.0])
    # Two full batches of 3 ms each, one on either call, then the rest with whoever comes.
    assert queue.start_s(2.0, [0.0, 0.0]) == pytest.approx(0.003 + 0.001)
    assert queue.start_s(2.0, [0.0, 0.010]) == pytest.approx(0.006 + 0.001)


def test_a_batch_holds_no_more_candidates_than_the_largest_request() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=1000)
    for name, candidates in (("small", 100), ("large", 950), ("last", 50)):
        assert queue.offer(name, 1.0, candidates, [0.0])
    assert [names(queue.choose(0.0)) for _ in range(2)] == [["small"], ["large", "last"]]


def test_background_goes_last_and_alone() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert queue.offer("shadow", 0.5, 10, [0.0], background=True)
    assert queue.offer("other shadow", 0.6, 10, [0.0], background=True)
    assert queue.offer("live", 1.0, 10, [0.0])
    assert queue.start_s(2.0, [0.0]) == pytest.approx(10 * EACH_S)  # only the live one is ahead
    assert [names(queue.choose(0.0)) for _ in range(2)] == [["live"], ["shadow", "other shadow"]]


def test_who_is_given_up_leaves_once() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    tickets = [queue.offer(name, 1.0, 10, [0.0]) for name in "abc"]
    assert tickets[1]
    assert queue.remove(tickets[1])
    assert not queue.remove(tickets[1])
    assert names(queue.choose(0.0)) == ["a", "c"]


def test_all_may_be_sent_away() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert queue.first_late_s == float("inf")
    assert queue.offer("a", 1.0, 100, [0.0])
    assert queue.first_late_s == pytest.approx(0.998)
    assert queue.drop_late(0.9)[0] == []
    assert [ticket.item for ticket in queue.clear()] == ["a"]
    assert len(queue) == 0


def test_predictions_that_rise_make_hopeless_what_was_not() -> None:
    pace = [EACH_S]
    queue: EdfQueue[str] = EdfQueue(lambda candidates: FIXED_S + pace[0] * candidates, most=8, most_rows=ROWS)
    assert queue.offer("large", 0.020, 1000, [0.0])
    assert queue.offer("small", 0.020, 10, [0.0])
    pace[0] = 2 * EACH_S
    late, next_s = queue.drop_late(0.0)
    assert [ticket.item for ticket in late] == ["large"]
    assert next_s == queue.first_late_s
    assert names(queue.choose(0.0)) == ["small"]


def test_what_has_become_hopeless_is_dropped_and_the_next_is_served() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    assert queue.offer("soon", 0.003, 100, [0.0])
    assert queue.offer("later", 0.010, 100, [0.0])
    choice = queue.choose(0.002)
    assert [ticket.item for ticket in choice.dropped] == ["soon"]
    assert names(choice) == ["later"]


def test_a_batch_grows_no_larger_than_its_first_deadline_allows() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8, most_rows=ROWS)
    for name in "abcd":
        assert queue.offer(name, 0.0059, 100, [0.0, 0.0, 0.0, 0.0])
    assert names(queue.choose(0.0025)) == ["a", "b"]
    assert names(queue.choose(0.0025)) == ["c", "d"]


def test_a_batch_holds_no_more_than_the_most() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=2, most_rows=ROWS)
    for name in "abc":
        assert queue.offer(name, 1.0, 1, [0.0])
    assert names(queue.choose(0.0)) == ["a", "b"]
    assert names(queue.choose(0.0)) == ["c"]
    assert queue.choose(0.0) == Choice((), ())


def test_a_queue_for_empty_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="most must be >= 1"):
        EdfQueue(predict, most=0, most_rows=ROWS)


@dataclass
class _Seen:
    """How each request left."""

    refused: list[int]
    batched: list[int]
    dropped: list[int]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.floats(-0.005, 0.05), st.integers(1, 2000), st.booleans()),
            st.tuples(st.just("choose"), st.floats(0.0, 0.02), st.just(0), st.just(True)),
            st.tuples(st.just("choose short"), st.floats(0.0, 0.02), st.integers(0, 900), st.just(True)),
        ),
        max_size=60,
    ),
    most=st.integers(1, 9),
    slots=st.integers(1, 4),
)
def test_whatever_happens_the_rules_hold(steps: list[Step], most: int, slots: int) -> None:
    queue: EdfQueue[int] = EdfQueue(predict, most, ROWS)
    seen = _Seen([], [], [])
    deadlines_s: list[float] = []
    now_s = 1.0
    for kind, seconds, candidates, background in steps:
        if kind == "offer":
            deadlines_s.append(now_s + seconds)
            name, free_s = len(deadlines_s) - 1, [now_s] * slots
            if not queue.offer(name, deadlines_s[-1], candidates, free_s, background=background):
                seen.refused.append(len(deadlines_s) - 1)
            continue
        now_s += seconds
        if kind == "choose":
            _judge(queue.choose(now_s), queue, now_s, most, seen)
        else:
            _judge_short(queue, now_s, candidates, seen)
    while len(queue):
        _judge(queue.choose(now_s), queue, now_s, most, seen)
    assert sorted(seen.refused + seen.batched + seen.dropped) == list(range(len(deadlines_s)))


def _judge_short(queue: EdfQueue[int], now_s: float, largest: int, seen: _Seen) -> None:
    """Only short ones go, no larger together than one may be; whoever else waited does so in the same order."""
    before = list(queue._waiting)
    choice = queue.choose(now_s, largest)
    assert choice.candidates <= largest
    left = {*choice.batch, *choice.dropped}
    assert queue._waiting == [ticket for ticket in before if ticket not in left]
    assert not any(ticket.background for ticket in left)
    assert all(now_s + predict(ticket.candidates) > ticket.deadline_s for ticket in choice.dropped)
    if choice.batch:
        assert all(now_s + predict(choice.candidates) <= ticket.deadline_s for ticket in choice.batch)
    else:
        fits = [one for one in queue._waiting if not one.background and one.candidates <= largest]
        assert not fits, "a short request could have gone"
    seen.batched += [ticket.item for ticket in choice.batch]
    seen.dropped += [ticket.item for ticket in choice.dropped]


def _judge(choice: Choice[int], queue: EdfQueue[int], now_s: float, most: int, seen: _Seen) -> None:
    batch = choice.batch
    assert len(batch) <= most
    assert choice.candidates == sum(ticket.candidates for ticket in batch)
    assert len(batch) <= 1 or choice.candidates <= ROWS
    assert len({ticket.background for ticket in batch}) <= 1
    assert list(batch) == sorted(batch, key=lambda ticket: (ticket.deadline_s, ticket.order))
    assert all(ticket.deadline_s >= now_s for ticket in batch)
    if batch:
        assert all(now_s + predict(choice.candidates) <= ticket.deadline_s for ticket in batch)
        assert all(batch[-1] < ticket for ticket in queue._waiting)
    assert all(now_s + predict(ticket.candidates) > ticket.deadline_s for ticket in choice.dropped)
    assert batch or choice.dropped or not len(queue)
    seen.batched += [ticket.item for ticket in batch]
    seen.dropped += [ticket.item for ticket in choice.dropped]
