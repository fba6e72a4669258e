"""Goodput against offered load out of one run."""

import numpy as np
import pytest

from loadtest.arrivals.schedule import arrivals
from loadtest.arrivals.shapes import SHAPES
from loadtest.checking.record import Record
from loadtest.report.sweep import knee_of, sweep_of

CAPACITY_RPS = 250.0


def record_of(shape: str) -> Record:
    """A run around 100 requests a second of a server that answers 250 of them in time, and no more."""
    profile = SHAPES[shape](100.0, 20.0, 0)
    at_s = arrivals(profile, 1)
    kept = np.array([profile.rate_at(at) for at in at_s])
    good = np.arange(len(at_s)) % 100 < 100 * np.minimum(CAPACITY_RPS / kept, 1.0)
    return Record(
        at_s=at_s,
        latency_s=np.where(good, 0.004, 0.05),
        lateness_s=np.zeros(len(at_s)),
        ok=good,
        tier=np.where(good, "full", "unanswered"),
        version=np.ones(len(at_s), np.int64),
        error=("",) * len(at_s),
    )


def test_the_steps_of_an_overload_are_its_loads() -> None:
    made = sweep_of(record_of("overload"), SHAPES["overload"](100.0, 20.0, 0), 0.025)
    assert [each["offered_rps"] for each in made["sweep"]] == pytest.approx([100, 200, 500, 1000, 100], rel=0.15)
    goodput = [each["full_goodput_rps"] for each in made["sweep"]]
    assert goodput[2:4] == pytest.approx([CAPACITY_RPS, CAPACITY_RPS], rel=0.15)
    assert made["knee_rps"] == made["sweep"][1]["offered_rps"]
    assert made["sweep"][2]["late_share"] == pytest.approx(0.5, abs=0.1)
    assert [each["p99_cut"] for each in made["sweep"]] == [False, False, True, True, False]
    assert made["sweep"][0]["p99_ms"] < 25 < made["sweep"][2]["p99_ms"]


def test_a_ramp_is_cut_into_parts_of_rising_loads() -> None:
    made = sweep_of(record_of("ramp"), SHAPES["ramp"](100.0, 20.0, 0), 0.025)
    offered = [each["offered_rps"] for each in made["sweep"]]
    assert len(offered) == 10
    assert offered == sorted(offered)
    assert made["knee_rps"] is None  # twice the rate is less than what it can


@pytest.mark.parametrize("shape", ["steady", "spike", "bursty"])
def test_other_shapes_have_no_sweep(shape: str) -> None:
    assert sweep_of(record_of(shape), SHAPES[shape](100.0, 20.0, 0), 0.025) == {}


def test_there_is_a_knee_only_between_what_held_and_what_did_not() -> None:
    loads = [{"offered_rps": rate, "full_goodput_rps": min(rate, 90.0)} for rate in (50.0, 80.0, 200.0)]
    assert knee_of(loads) == 80.0
    assert knee_of(loads[:2]) is knee_of(loads[2:]) is None
