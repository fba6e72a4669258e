import numpy as np
import pytest

from bench.overload.figures import Record, back_s, figures, joined
from loadtest.checking.outcomes import Outcome

BUDGET_S = 0.025


def record(*rows: tuple[float, float, Outcome], lateness_s: float = 0.0) -> Record:
    at_s, latency_s, outcome = (np.array(column) for column in zip(*rows, strict=True))
    return Record(at_s, np.zeros(len(rows), np.int64), latency_s, np.full(len(rows), lateness_s), outcome)


def steady(start_s: float, stop_s: float, outcome: Outcome, gap_s: float = 0.01) -> list[tuple[float, float, Outcome]]:
    return [(float(at_s), 0.01, outcome) for at_s in np.arange(start_s, stop_s, gap_s)]


def test_late_is_whatever_is_not_in_the_callers_hands_in_time() -> None:
    made = record(
        (0.0, 0.024, Outcome.FULL),
        (0.1, 0.026, Outcome.FULL),
        (0.2, 0.024, Outcome.PRIOR),
        (0.3, 0.024, Outcome.SHED),
        (0.4, 0.026, Outcome.SHED),
        (0.5, 0.024, Outcome.UNANSWERED),
        (0.6, 0.001, Outcome.FAILED),
    )
    assert made.late(BUDGET_S).tolist() == [False, True, False, False, True, True, True]


def test_shares_are_of_the_offered_and_goodput_is_scored_and_in_time() -> None:
    made = figures(
        record(
            (0.0, 0.010, Outcome.FULL),
            (0.1, 0.030, Outcome.FULL),
            (0.2, 0.010, Outcome.TRIMMED),
            (0.3, 0.010, Outcome.PRIOR),
            (0.4, 0.010, Outcome.SHED),
            (0.5, 0.027, Outcome.UNANSWERED),
            (0.6, 0.002, Outcome.FAILED),
            (0.7, 0.010, Outcome.LITE),
        ),
        seconds=2.0,
        budget_s=BUDGET_S,
    )
    assert (made.offered, made.offered_rps, made.late) == (8, 4.0, 3)
    assert made.tiers == {"full": 0.25, "trimmed": 0.125, "lite": 0.125, "prior": 0.125, "shed": 0.125}
    assert sum(made.tiers.values()) + made.unanswered_share + made.failed_share == 1.0
    assert made.scored_goodput_rps == 1.5
    assert made.full_goodput_rps == 0.5
    # Over the late ones: 5 ms, 2 ms, and a failure that ended before its deadline.
    assert made.overshoot_p99_ms == pytest.approx(5.0, abs=0.1)


def test_refusals_are_no_answers() -> None:
    rows = [(at_s / 100, 0.001, Outcome.SHED) for at_s in range(300)]
    made = figures(record(*rows, (3.0, 0.020, Outcome.PRIOR), (3.1, 0.020, Outcome.FULL)), 4.0, BUDGET_S)
    assert made.p99_ms < 2.0
    assert made.answers_p99_ms == pytest.approx(20.0)
    assert figures(record(*rows), 4.0, BUDGET_S).answers_p99_ms is None


def test_what_gave_no_answer_at_all_is_no_refusal() -> None:
    made = figures(record((0.0, 0.010, Outcome.FULL), (0.1, 0.030, Outcome.UNANSWERED)), 1.0, BUDGET_S)
    assert made.answers_p99_ms == pytest.approx(30.0, rel=0.01)


def test_where_no_deadline_tells_the_server_the_budget_runs_from_the_sending() -> None:
    made = record((0.0, 0.027, Outcome.PRIOR), (0.1, 0.031, Outcome.PRIOR), lateness_s=0.003)
    assert made.late(BUDGET_S).tolist() == [True, True]
    assert made.since_sent().late(BUDGET_S).tolist() == [False, True]
    assert figures(made.since_sent(), 1.0, BUDGET_S).overshoot_p99_ms == pytest.approx(3.0)


def test_the_generators_own_lateness_is_stated_and_not_subtracted() -> None:
    made = figures(record((0.0, 0.030, Outcome.FULL), lateness_s=0.010), 1.0, BUDGET_S)
    assert (made.late, made.late_sent_late) == (1, 1)
    assert made.sent_late_p99_ms == pytest.approx(10.0)


def test_a_run_without_requests_has_no_figures() -> None:
    with pytest.raises(ValueError, match="without requests"):
        figures(record((0.0, 0.01, Outcome.FULL)).between(1.0), 1.0, BUDGET_S)


def test_full_is_back_where_a_whole_window_of_full_answers_begins() -> None:
    rows = [*steady(0.0, 1.0, Outcome.PRIOR), *steady(1.0, 1.1, Outcome.FULL), *steady(1.1, 1.6, Outcome.PRIOR)]
    made = record(*rows, *steady(1.6, 4.0, Outcome.FULL))
    # One twentieth of the window may still be something else.
    assert back_s(made, BUDGET_S, since_s=1.0) == pytest.approx(0.6, abs=0.03)
    assert back_s(made, BUDGET_S, since_s=2.0) == pytest.approx(0.0, abs=0.011)


def test_full_that_only_begins_again_at_the_very_end_is_not_back() -> None:
    made = record(*steady(0.0, 2.0, Outcome.PRIOR), *steady(2.0, 2.3, Outcome.FULL))
    assert back_s(made, BUDGET_S, since_s=1.0) is None
    assert back_s(made, BUDGET_S, since_s=9.0) is None


def test_late_full_answers_are_not_back() -> None:
    rows = [(at_s, 0.03, outcome) for at_s, _, outcome in steady(0.0, 2.0, Outcome.FULL)]
    assert back_s(record(*rows), BUDGET_S, since_s=0.5) is None


def test_joined_holds_the_rows_of_all() -> None:
    one, two = record((0.0, 0.01, Outcome.FULL)), record((0.0, 0.02, Outcome.PRIOR), (1.0, 0.03, Outcome.SHED))
    both = joined([one, two])
    assert both.latency_s.tolist() == [0.01, 0.02, 0.03]
    assert both.outcome.tolist() == [Outcome.FULL, Outcome.PRIOR, Outcome.SHED]
