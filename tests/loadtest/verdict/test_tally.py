import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.checking.record import Record
from loadtest.driving.target import Reply, summed_up
from loadtest.verdict.tally import Tally, tally_of

BUDGET_S = 0.025
replies = st.lists(
    st.tuples(
        st.sampled_from(["full", "trimmed", "prior", "shed", "unanswered", "failed", "wrong"]),
        st.floats(1e-5, 0.2),
        st.floats(0.0, 0.02),
    ),
    min_size=1,
    max_size=60,
)
# A histogram has thousands of counters, each a Python object.
slow = settings(deadline=None, max_examples=10)


def reply(tier: str) -> Reply:
    ok = tier in ("full", "trimmed", "prior")
    return Reply(ok, tier, "" if ok else tier)


def counted(rows: list[tuple[str, float, float]]) -> Tally:
    made = Tally(BUDGET_S)
    for tier, latency_s, lateness_s in rows:
        made.add(reply(tier), latency_s, lateness_s)
    return made


def recorded(rows: list[tuple[str, float, float]]) -> Record:
    return Record(
        at_s=np.arange(len(rows), dtype=float),
        latency_s=np.array([row[1] for row in rows]),
        lateness_s=np.array([row[2] for row in rows]),
        ok=np.array([reply(row[0]).ok for row in rows]),
        tier=np.array([row[0] for row in rows]),
        version=np.ones(len(rows), np.int64),
        error=tuple(reply(row[0]).error for row in rows),
    )


def same(one: Tally, two: Tally) -> bool:
    left, right = one.plain(), two.plain()
    histograms = ("latencies", "lateness")
    return all(left[name] == right[name] for name in left if name not in histograms) and all(
        (getattr(one, name).sample_ms() == getattr(two, name).sample_ms()).all() for name in histograms
    )


@slow
@given(replies)
def test_one_by_one_or_as_a_whole_the_counts_are_the_same(rows: list[tuple[str, float, float]]) -> None:
    whole = tally_of(summed_up(recorded(rows), BUDGET_S, 1.0, cpu_s=0.0, wall_s=1.0), BUDGET_S)
    assert same(counted(rows), whole)
    assert sum(whole.tiers.values()) == whole.offered
    assert whole.full_in_time <= whole.in_time <= whole.offered - whole.late + whole.tiers["shed"]


@slow
@given(replies, replies)
def test_parts_add_up_also_after_travelling(
    first: list[tuple[str, float, float]], second: list[tuple[str, float, float]]
) -> None:
    merged = counted(first)
    merged.merge(Tally.from_plain(counted(second).plain()))
    assert same(merged, counted([*first, *second]))


def test_a_shed_refusal_in_time_is_neither_late_nor_goodput_and_a_wrong_answer_is_late() -> None:
    made = counted([("shed", 0.001, 0.0), ("wrong", 0.001, 0.0), ("shed", 0.03, 0.0), ("full", 0.001, 0.0)])
    figures = made.figures()
    assert made.late == 2
    assert figures["goodput_share"].value == 0.25
    assert figures["error_share"].value == 0.25
    assert figures["full_tier_share"].value == 0.25


def test_an_empty_tally_has_no_figures() -> None:
    with pytest.raises(ValueError, match="share"):
        Tally(BUDGET_S).figures()


@pytest.mark.parametrize("tier", ["failed", "wrong", "unanswered"])
def test_what_comes_to_nothing_at_once_makes_no_good_percentile(tier: str) -> None:
    rows = [("full", 0.02, 0.0)] * 95 + [(tier, 0.001, 0.0)] * 5
    figures = counted(rows).figures()
    assert figures["p90_ms"].value < 25 < figures["p99_ms"].value
    whole = summed_up(recorded(rows), BUDGET_S, 1.0, cpu_s=0.0, wall_s=1.0)
    assert whole.p50_ms < 25 < whole.p99_ms


def test_a_percentile_past_which_callers_gave_up_is_cut() -> None:
    answered, late = [("full", 0.004, 0.0)] * 95, [("full", 0.03, 0.0)] * 5
    assert counted([*answered, *late]).cut() == []  # late, but all came
    assert counted([*answered, *late[1:], ("unanswered", 0.025, 0.0)]).cut() == ["p99_ms", "p999_ms", "max_ms"]
    assert counted([*answered, ("failed", 0.001, 0.0)]).cut() == []
