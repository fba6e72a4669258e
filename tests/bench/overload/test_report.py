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
        "tiers": TIERS,
        "unanswered_share": 0.0,
        "failed_share": 0.0,
        "scored_goodput_rps": goodput_rps,
        "generator_cpu_share": 0.2,
        "other_cpu_s": 0.1,
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
    assert checks({**result(), "runs": []}) == []


def test_the_table_has_a_line_per_run_and_per_promise() -> None:
    stall = {"late": 3, "overshoot_p99_ms": 1.0, "recovery_s": 0.2}
    text = table(
        result(stall=stall, mixed={"p99_ratio": 1.2}, simulation={"violations": 0, "seeds": 40, "seeds_per_s": 39.0})
    )
    assert "  10C     1000.0   0.000%" in text
    assert "50.00%" in text
    assert "NOT   stall: late answers" in text
    assert "met   mixed: p99 of small with / without large" in text
    assert "met   simulation: violations in 40 seeds, 39/s" in text
