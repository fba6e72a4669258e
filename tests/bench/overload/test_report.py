from typing import Any

from bench.overload.report import Check, checks, table

TIERS = {"full": 0.5, "trimmed": 0.1, "lite": 0.0, "prior": 0.3, "shed": 0.1}


def run(multiple: int, goodput_rps: float) -> dict[str, Any]:
    return {
        "multiple": multiple,
        "offered_rps": 100.0 * multiple,
        "late_share": 0.0,
        "p50_ms": 5.0,
        "p99_ms": 20.0,
        "answers_p99_ms": 22.0,
        "tiers": {**TIERS, "full": 0.995, "prior": 0.0, "shed": 0.0, "trimmed": 0.005} if multiple == 1 else TIERS,
        "unanswered_share": 0.0,
        "failed_share": 0.0,
        "scored_goodput_rps": goodput_rps,
        "full_goodput_rps": 50.0,
        "generator_cpu_share": 0.2,
        "other_cpu_s": -0.04,
    }


def result(**more: Any) -> dict[str, Any]:
    plain = {"capacity_rps": 100.0, "candidates": 1000, "budget_ms": 25.0, "seconds": 30.0, "generator_cpu_share": 0.2}
    return {**plain, "runs": [run(1, 100.0), run(2, 80.0), run(10, 95.0)], **more}


def by_name(made: list[Check]) -> dict[str, bool]:
    return {check.name: check.met for check in made}


def test_goodput_is_held_against_that_at_the_capacity() -> None:
    met = by_name(checks(result()))
    assert not met["2C: scored goodput / that at C"]
    assert met["10C: scored goodput / that at C"]
    assert met["10C: sum of the tiers' shares"]


def test_what_never_came_back_is_not_met() -> None:
    met = by_name(checks(result(step={"full_back_s": None}, frontend_ratio=None)))
    assert not met["1C 10C 1C: full tier back, s"]
    assert not met["frontend / direct Triton, medians"]


def test_only_what_was_measured_is_checked() -> None:
    assert checks({**result(), "runs": [], "generator_cpu_share": None}) == []


def test_the_run_at_the_capacity_must_bear_it_out() -> None:
    assert all(by_name(checks({**result(), "runs": [run(1, 100.0)]})).values())
    for wrong in ({"tiers": TIERS}, {"late_share": 0.01}, {"p99_ms": 25.1}, {"answers_p99_ms": 25.1}):
        met = by_name(checks({**result(), "runs": [run(1, 100.0) | wrong]}))
        assert list(met.values()).count(False) == 1, wrong


def test_refusals_dont_make_the_answers_quick() -> None:
    slow = run(10, 95.0) | {"answers_p99_ms": 26.0}
    met = by_name(checks({**result(), "runs": [run(1, 100.0), slow]}))
    assert not met["10C: p99 of all answers, ms"]
    assert met["10C: p99 of answers and refusals, ms"]
    nobody = run(10, 95.0) | {"answers_p99_ms": None}
    assert not by_name(checks({**result(), "runs": [nobody]}))["10C: p99 of all answers, ms"]


def test_the_generators_share_is_judged_whatever_was_run() -> None:
    met = by_name(checks({**result(), "runs": [], "generator_cpu_share": 0.4}))
    assert not met["generator's share of the CPU time"]


def test_the_table_has_a_line_per_run_and_per_promise() -> None:
    stall = {"late": 3, "offered": 70, "late_since_scheduled": 4, "overshoot_p99_ms": 1.0, "recovery_s": 0.2}
    stall |= {"hurt_to_full_s": 5.21, "other_cpu_s": 0.1}
    text = table(
        result(stall=stall, mixed={"p99_ratio": 1.2}, simulation={"violations": 0, "seeds": 40, "seeds_per_s": 39.0})
    )
    assert "  10C     1000.0   0.000%" in text
    assert "50.00%" in text
    assert "  -0.04s" in text
    assert "stall: full tier back after 5.21 s, from the fault on; 3 of 70 late since they were sent, 4 since" in text
    assert "NOT   stall: late answers" in text
    assert "met   mixed: p99 of small with / without large" in text
    assert "met   simulation: violations in 40 seeds, 39/s" in text
