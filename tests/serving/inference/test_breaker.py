from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.inference.breaker import Breaker, Cause, State
from serving.inference.canary import Finding

P99_S = 0.005


@pytest.fixture
def breaker(clock: Any) -> Breaker:
    """Closed."""
    made = Breaker(clock)
    fly(made, Finding.PASSED)
    return made


def fly(breaker: Breaker, finding: Finding) -> None:
    breaker.depart()
    breaker.arrive(finding)


def hang(breaker: Breaker, clock: Any, calls: int, gap_s: float = 0.008) -> None:
    for _ in range(calls):
        breaker.unanswered(P99_S)
        clock.now_s += gap_s


@pytest.mark.parametrize("finding", [found for found in Finding if found is not Finding.PASSED])
def test_a_new_backend_needs_a_passed_canary(clock: Any, finding: Finding) -> None:
    breaker = Breaker(clock)
    fly(breaker, finding)
    assert not breaker.closed
    fly(breaker, Finding.PASSED)
    assert breaker.closed
    assert sum(breaker.ejections.values()) == 0


def test_a_canary_on_its_way_makes_it_half_open_and_lets_nobody_through(clock: Any) -> None:
    breaker = Breaker(clock)
    breaker.depart()
    assert breaker.state is State.HALF_OPEN
    assert not breaker.closed


def test_a_hung_backend_is_ejected_after_a_few_calls(breaker: Breaker, clock: Any) -> None:
    hang(breaker, clock, 2)
    assert breaker.closed
    hang(breaker, clock, 1)
    assert (breaker.state, breaker.cause) == (State.OPEN, Cause.SILENT)
    hang(breaker, clock, 5)
    assert breaker.ejections == {Cause.WRONG: 0, Cause.GONE: 0, Cause.SILENT: 1}


def test_an_overloaded_backend_that_answers_now_and_then_is_not(breaker: Breaker, clock: Any) -> None:
    for _ in range(50):
        hang(breaker, clock, 2)
        breaker.answered()
    assert breaker.closed


def test_a_stall_of_our_own_shows_many_late_calls_at_one_instant_and_ejects_nobody(
    breaker: Breaker, clock: Any
) -> None:
    hang(breaker, clock, 100, gap_s=0.0)
    assert breaker.closed
    clock.now_s += 0.014
    hang(breaker, clock, 1)
    assert breaker.closed
    hang(breaker, clock, 1)
    assert not breaker.closed


def test_predictions_that_suffer_from_the_silence_do_not_prolong_it(breaker: Breaker, clock: Any) -> None:
    breaker.unanswered(P99_S)
    clock.now_s += 0.008
    breaker.unanswered(0.02)
    clock.now_s += 0.008
    breaker.unanswered(0.02)
    assert not breaker.closed


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (Finding.PASSED, State.CLOSED),
        (Finding.SLOW, State.CLOSED),
        (Finding.BUSY, State.OPEN),
        (Finding.WRONG, State.OPEN),
        (Finding.SILENT, State.OPEN),
        (Finding.GONE, State.OPEN),
    ],
)
def test_after_silence_the_first_right_answer_closes(
    breaker: Breaker, clock: Any, finding: Finding, state: State
) -> None:
    hang(breaker, clock, 3)
    fly(breaker, finding)
    assert breaker.state is state


@pytest.mark.parametrize("cause", [Cause.GONE, Cause.WRONG])
def test_what_was_gone_or_wrong_must_pass(breaker: Breaker, clock: Any, cause: Cause) -> None:
    if cause is Cause.GONE:
        breaker.gone()
    else:
        fly(breaker, Finding.WRONG)
    hang(breaker, clock, 5)
    for finding in (Finding.SILENT, Finding.SILENT, Finding.SLOW):
        fly(breaker, finding)
        assert (breaker.state, breaker.cause) == (State.OPEN, cause)
    fly(breaker, Finding.PASSED)
    assert breaker.closed
    assert breaker.ejections[cause] == 1


def test_one_that_was_silent_and_is_then_gone_must_pass(breaker: Breaker, clock: Any) -> None:
    hang(breaker, clock, 3)
    fly(breaker, Finding.GONE)
    fly(breaker, Finding.SLOW)
    assert not breaker.closed


def test_two_silent_canaries_in_a_row_open_it_unless_requests_are_answered(breaker: Breaker) -> None:
    fly(breaker, Finding.SILENT)
    breaker.answered()
    fly(breaker, Finding.SILENT)
    assert breaker.closed
    fly(breaker, Finding.SILENT)
    assert not breaker.closed


@given(st.lists(st.sampled_from(["answered", "unanswered", "gone", "depart", *Finding]), max_size=60))
def test_it_closes_by_canaries_alone(events: list[Any]) -> None:
    now_s = [0.0]
    breaker = Breaker(lambda: now_s[0])
    for event in events:
        now_s[0] += 0.01
        was = breaker.closed
        if isinstance(event, Finding):
            breaker.arrive(event)
            assert breaker.closed or event is not Finding.PASSED
            continue
        if event == "unanswered":
            breaker.unanswered(P99_S)
        else:
            getattr(breaker, event)()
        assert was or not breaker.closed
