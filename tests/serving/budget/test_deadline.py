from typing import Any

import pytest

from serving.budget.deadline import Arrival, Deadline


def test_the_lesser_of_callers_time_and_budget_counts(clock: Any) -> None:
    assert Deadline.at_door(Arrival(clock(), 0.010), 0.025, clock).remaining_s() == pytest.approx(0.010)
    assert Deadline.at_door(Arrival(clock(), 3600.0), 0.025, clock).remaining_s() == pytest.approx(0.025)


def test_no_caller_deadline_means_the_budget_never_infinity(clock: Any) -> None:
    assert Deadline.at_door(Arrival(clock(), None), 0.025, clock).remaining_s() == pytest.approx(0.025)


def test_waiting_counts_against_the_budget_but_only_once_against_the_caller(clock: Any) -> None:
    late = Deadline.at_door(Arrival(clock(), None, waited_s=0.010), 0.025, clock)
    assert late.remaining_s() == pytest.approx(0.015)
    assert late.budget_s == pytest.approx(0.025)
    # The caller's 12 ms were measured after the wait.
    short = Deadline.at_door(Arrival(clock(), 0.012, waited_s=0.010), 0.025, clock)
    assert short.remaining_s() == pytest.approx(0.012)
    assert short.budget_s == pytest.approx(0.022)


def test_only_the_callers_own_deadline_makes_a_request_hopeless(clock: Any) -> None:
    assert Arrival(clock(), 0.0).hopeless
    assert not Arrival(clock(), 0.001, waited_s=5.0).hopeless
    assert not Arrival(clock(), None, waited_s=5.0).hopeless


def test_time_runs_and_what_is_over_is_negative(clock: Any) -> None:
    deadline = Deadline.after(0.02, clock)
    clock.now_s += 0.03
    assert deadline.remaining_s() == pytest.approx(-0.01)


def test_the_reserve_comes_off_the_instant_and_not_off_the_budget(clock: Any) -> None:
    deadline = Deadline.after(0.02, clock).less(0.005)
    assert deadline.remaining_s() == pytest.approx(0.015)
    assert deadline.budget_s == 0.02
