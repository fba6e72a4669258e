from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.driving.target import Reply
from loadtest.verdict.judge import FAIL, INVALID, PASS, Limits, faults_of_generator, judge
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.objectives import KNOWN, Objective, ObjectivesError, load, parse, usual
from loadtest.verdict.stats import Interval
from loadtest.verdict.tally import Tally


@pytest.mark.parametrize(
    ("objective", "figure", "met", "sure"),
    [
        (Objective("p99_ms", 25.0), Interval(20.0, 18.0, 22.0), True, True),
        (Objective("p99_ms", 25.0), Interval(20.0, 18.0, 30.0), True, False),
        (Objective("p99_ms", 25.0), Interval(30.0, 26.0, 31.0), False, True),
        (Objective("full_tier_share", 0.99), Interval(0.995, 0.991, 1.0), True, True),
        (Objective("full_tier_share", 0.99), Interval(0.9, 0.8, 0.95), False, True),
        (Objective("full_tier_share", 0.99), Interval(0.98, 0.9, 0.995), False, False),
    ],
)
def test_each_objective_has_a_direction(objective: Objective, figure: Interval, met: bool, sure: bool) -> None:
    verdict = judge({objective.name: figure}, [objective])
    (check,) = verdict.checks
    assert (check.met, check.sure) == (met, sure)
    assert verdict.code == (PASS if met else FAIL)
    assert ("NOT MET" in check.line()) is not met


def test_an_invalid_run_neither_passes_nor_fails() -> None:
    figures = {"p99_ms": Interval(1.0, 1.0, 1.0)}
    assert judge(figures, [Objective("p99_ms", 25.0)], ["why"]).code == INVALID
    assert judge(figures, [Objective("p99_ms", 0.5)], ["why"]).code == INVALID


def test_objectives_that_could_not_fail_are_refused() -> None:
    with pytest.raises(ObjectivesError, match="none of the objectives"):
        judge({"p99_ms": Interval(1.0, 1.0, 1.0)}, [Objective("p99_drift", 1.0)])


def generator(sent_late: int, offered: int, cpu_share: float) -> Tally:
    return Tally(0.025, offered=offered, sent_late=sent_late, cpu_share=cpu_share, latencies=Latencies([0.01]))


def test_a_generator_that_is_late_or_busy_spoils_the_run() -> None:
    assert faults_of_generator(generator(0, 1000, 0.5)) == ()
    assert faults_of_generator(generator(1, 25, 0.5)) == ()  # one hiccup
    assert "5.0% of the requests 5 ms late" in faults_of_generator(generator(50, 1000, 0.5))[0]
    assert "95% of its core" in faults_of_generator(generator(0, 1000, 0.95))[0]
    assert faults_of_generator(generator(50, 1000, 0.95), Limits(1.0, 1.0)) == ()
    assert faults_of_generator(generator(0, 0, 0.0)) == ("no request was offered",)


def late_by(lateness_s: float, offered: int = 2000, **more: float) -> Tally:
    made = generator(0, offered, more.get("cpu_share", 0.5))
    made.lateness, made.cpu_peak = Latencies([lateness_s] * offered), more.get("cpu_peak", 0.0)
    return made


def test_a_generator_that_is_a_little_late_with_everything_spoils_the_run() -> None:
    assert "half of the requests 4.9 ms late" in faults_of_generator(late_by(0.0049))[0]
    assert faults_of_generator(late_by(0.0015)) == ()  # timers tick in milliseconds
    assert faults_of_generator(late_by(0.0049, offered=3)) == ()  # three requests have no median to speak of
    assert faults_of_generator(late_by(0.0049), Limits(1.0)) == ()
    assert faults_of_generator(replace(late_by(0.0049), budget_s=0.2)) == ()


def test_one_saturated_second_spoils_the_run() -> None:
    assert "97% of its core in a second" in faults_of_generator(late_by(0.0, cpu_peak=0.97))[0]
    assert faults_of_generator(late_by(0.0, cpu_peak=0.85)) == ()
    assert faults_of_generator(late_by(0.0, cpu_peak=1.2), Limits(cpu_share=1.0)) == ()


def test_a_file_of_objectives(tmp_path: Path) -> None:
    path = tmp_path / "objectives.toml"
    path.write_text("[objectives]\nlate_share = 0.001\np99_ms = 25\n")
    assert load(path) == (Objective("late_share", 0.001), Objective("p99_ms", 25.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a table"),
        ("[objectives]", "at least one"),
        ("[other]\n", "unknown entry 'other'"),
        ("[objectives]\np98_ms = 1", "unknown objective 'p98_ms'"),
        ("[objectives]\nlate_share = 1.5", "late_share: a share"),
        ("[objectives]\nlate_share = true", "late_share: expected"),
        ("[objectives]\np99_ms = nan", "p99_ms: expected"),
        ("[objectives]\np99_ms = -1", "p99_ms: expected"),
        ("objectives = 3", "expected a table"),
        ("[objectives", "objectives.toml"),
    ],
)
def test_a_bad_file_is_refused_and_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "objectives.toml"
    path.write_text(text)
    with pytest.raises(ObjectivesError, match=said) as refused:
        load(path)
    assert "objectives.toml" in str(refused.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('a=[]"\n.é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*KNOWN, "objectives", "x"]), inner),
)


@given(st.dictionaries(st.sampled_from(["objectives", "other"]), json_like))
def test_anything_else_is_refused_with_the_same_error(raw: dict[str, object]) -> None:
    try:
        made = parse(raw)
    except ObjectivesError:
        return
    assert made
    assert all(each.name in KNOWN and each.bound >= 0 for each in made)


def test_the_usual_objectives_follow_the_budget() -> None:
    assert Objective("p99_ms", 25.0) in usual(0.025)


@pytest.mark.parametrize(
    ("wrong", "objectives", "code"),
    [
        (0, [Objective("p99_ms", 25.0)], PASS),
        (1, [Objective("p99_ms", 25.0)], FAIL),
        (1, [Objective("p99_ms", 25.0), Objective("error_share", 0.5)], FAIL),
        (1, [Objective("p99_ms", 25.0), Objective("wrong_share", 0.5)], PASS),
    ],
)
def test_a_wrong_answer_fails_unless_an_objective_allows_it(wrong: int, objectives: list[Objective], code: int) -> None:
    made = Tally(0.025)
    for at in range(1000):
        made.add(Reply(at >= wrong, "wrong" if at < wrong else "full"), 0.004, 0.0)
    assert judge(made.figures(), objectives).code == code
