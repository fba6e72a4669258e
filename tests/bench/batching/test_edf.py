"""The queue under any sequence of offers and choices, on a clock that only the test moves."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.batching.edf import Choice, EdfQueue

FIXED_S, EACH_S = 0.001, 0.00001
Step = tuple[str, float, int]


def predict(candidates: int) -> float:
    return FIXED_S + EACH_S * candidates


def names(choice: Choice[str]) -> list[str]:
    return [ticket.item for ticket in choice.batch]


def test_the_earliest_deadline_goes_first_and_ties_go_by_arrival() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8)
    for name, deadline_s in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("soon", 0.5)):
        assert queue.offer(name, deadline_s, 10, [0.0])
    assert names(queue.choose(0.0)) == ["soon", "first", "second", "late"]


def test_what_would_finish_late_is_refused_at_once() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8)
    assert not queue.offer("hopeless", 0.0019, 100, [0.0])
    assert queue.offer("just", 0.0021, 100, [0.0])
    assert not queue.offer("the call outstanding ends too late", 0.0021, 100, [0.001])


def test_those_with_earlier_deadlines_count_as_work_ahead_and_the_others_do_not() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8)
    assert queue.offer("ahead", 0.010, 800, [0.0])
    assert not queue.offer("behind", 0.0105, 200, [0.0])
    assert queue.offer("behind, but another call is free", 0.0105, 200, [0.0, 0.0])
    assert queue.offer("before", 0.0095, 200, [0.0])


def test_what_has_become_hopeless_is_dropped_and_the_next_is_served() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8)
    assert queue.offer("soon", 0.003, 100, [0.0])
    assert queue.offer("later", 0.010, 100, [0.0])
    choice = queue.choose(0.002)
    assert [ticket.item for ticket in choice.dropped] == ["soon"]
    assert names(choice) == ["later"]


def test_a_batch_grows_no_larger_than_its_first_deadline_allows() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=8)
    for name in "abcd":
        assert queue.offer(name, 0.0059, 100, [0.0, 0.0, 0.0, 0.0])
    assert names(queue.choose(0.0025)) == ["a", "b"]
    assert names(queue.choose(0.0025)) == ["c", "d"]


def test_a_batch_holds_no_more_than_the_most() -> None:
    queue: EdfQueue[str] = EdfQueue(predict, most=2)
    for name in "abc":
        assert queue.offer(name, 1.0, 1, [0.0])
    assert names(queue.choose(0.0)) == ["a", "b"]
    assert names(queue.choose(0.0)) == ["c"]
    assert queue.choose(0.0) == Choice((), ())


def test_a_queue_for_empty_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="most must be >= 1"):
        EdfQueue(predict, most=0)


@dataclass
class _Seen:
    """How each request left."""

    refused: list[int]
    batched: list[int]
    dropped: list[int]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.floats(-0.005, 0.05), st.integers(1, 2000)),
            st.tuples(st.just("choose"), st.floats(0.0, 0.02), st.just(0)),
        ),
        max_size=60,
    ),
    most=st.integers(1, 9),
    slots=st.integers(1, 4),
)
def test_whatever_happens_the_rules_hold(steps: list[Step], most: int, slots: int) -> None:
    queue: EdfQueue[int] = EdfQueue(predict, most)
    seen = _Seen([], [], [])
    deadlines_s: list[float] = []
    now_s = 1.0
    for kind, seconds, candidates in steps:
        if kind == "offer":
            deadlines_s.append(now_s + seconds)
            if not queue.offer(len(deadlines_s) - 1, deadlines_s[-1], candidates, [now_s] * slots):
                seen.refused.append(len(deadlines_s) - 1)
            continue
        now_s += seconds
        _judge(queue.choose(now_s), queue, now_s, most, seen)
    while len(queue):
        _judge(queue.choose(now_s), queue, now_s, most, seen)
    assert sorted(seen.refused + seen.batched + seen.dropped) == list(range(len(deadlines_s)))


def _judge(choice: Choice[int], queue: EdfQueue[int], now_s: float, most: int, seen: _Seen) -> None:
    batch = choice.batch
    assert len(batch) <= most
    assert choice.candidates == sum(ticket.candidates for ticket in batch)
    assert list(batch) == sorted(batch, key=lambda ticket: (ticket.deadline_s, ticket.order))
    assert all(ticket.deadline_s >= now_s for ticket in batch)
    if batch:
        assert all(now_s + predict(choice.candidates) <= ticket.deadline_s for ticket in batch)
        assert all(batch[-1] < ticket for ticket in queue._waiting)
    assert all(now_s + predict(ticket.candidates) > ticket.deadline_s for ticket in choice.dropped)
    assert batch or choice.dropped or not len(queue)
    seen.batched += [ticket.item for ticket in batch]
    seen.dropped += [ticket.item for ticket in choice.dropped]
