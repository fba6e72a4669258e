"""What the scenarios make of runs, on runs that are made up."""

import time
from typing import Any

import numpy as np
import pytest

from bench.overload import scenarios
from bench.overload.capacity import FULL_SHARE
from bench.overload.figures import Figures, Record
from bench.overload.load import Run
from bench.overload.scenarios import Bench
from loadtest.checking.outcomes import Outcome

BUDGET_S = 0.025


class Vertical:
    budget_s = BUDGET_S
    max_candidates = 2000
    name = "feed"


class Load:
    """Answers in full up to a rate, and notes what it was asked to send."""

    def __init__(self, holds_rps: float) -> None:
        self.holds_rps = holds_rps
        self.patience: list[float] = []
        self.rates: list[float] = []
        self.generator_cpu_s = iter([0.1, 0.4, *[0.2] * 50])

    def run(self, streams: Any, name: str, actions: Any = (), *, patience: float = 1.0) -> Run:
        del name
        seconds = max(stream.at_s + stream.seconds for stream in streams)
        at_s = np.arange(0.0, seconds, 0.01)
        outcome = np.full(len(at_s), str(Outcome.FULL if streams[0].rate_rps <= self.holds_rps else Outcome.PRIOR))
        for _, act in actions:
            act()
        self.patience.append(patience)
        self.rates.append(streams[0].rate_rps)
        late_s, stream = np.full(len(at_s), 0.003), np.zeros(len(at_s), np.int64)
        record = Record(at_s, stream, np.full(len(at_s), 0.027), late_s, outcome)
        # As if the run had begun so long ago that what has just been done was done in its time.
        start_s = time.monotonic() - scenarios.BEFORE_S
        return Run(record, seconds, start_s, next(self.generator_cpu_s), 1.0, -0.01)


class Plant:
    def triton_pid(self) -> int:
        return 0

    def await_triton(self, *_: Any) -> float:
        return time.monotonic() + 1.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SETTLE_S", 0.0)
    monkeypatch.setattr("os.kill", lambda *_: None)


def bench(holds_rps: float = 1e9) -> tuple[Bench, Load]:
    load = Load(holds_rps)
    plant: Any = Plant()
    vertical: Any = Vertical()
    sends: Any = load
    return Bench(sends, plant, vertical, candidates=2000, seconds=3.0, restart_s=8.0), load


def rated(holds_rps: float, lowerings: int) -> tuple[float, dict[str, Any], list[str]]:
    said: list[str] = []
    one, load = bench(holds_rps)
    # Latencies of these runs are over the budget; whether a run bears out the capacity goes by its tiers here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenarios, "_is_rated", lambda _, made: made.tiers["full"] >= FULL_SHARE)
        found_rps, run = scenarios.rated(one, 100.0, lowerings, said.append)
    assert load.rates[-1] == found_rps
    return found_rps, run, said


def test_a_capacity_that_its_own_run_bears_out_stays() -> None:
    found_rps, run, said = rated(100.0, 2)
    assert (found_rps, run["multiple"], run["tiers"]["full"], said) == (100.0, 1, 1.0, [])


def test_a_capacity_that_its_own_run_does_not_bear_out_is_lowered() -> None:
    found_rps, run, said = rated(95.0, 2)
    assert found_rps == pytest.approx(100.0 / 1.06)
    assert run["tiers"]["full"] == 1.0
    assert "after all, no" in said[0]


@pytest.mark.parametrize("lowerings", [0, 2])
def test_a_run_that_never_bears_it_out_stands_to_be_judged(lowerings: int) -> None:
    found_rps, run, _ = rated(1.0, lowerings)
    assert found_rps == pytest.approx(100.0 / 1.06**lowerings)
    assert run["tiers"]["full"] == 0.0


@pytest.mark.parametrize(("p99_ms", "full", "good"), [(24.0, 0.99, True), (26.0, 1.0, False), (24.0, 0.98, False)])
def test_what_bears_a_capacity_out(p99_ms: float, full: float, good: bool) -> None:
    made = Figures(1, 1.0, 0, 0.0, 0, 1.0, p99_ms, p99_ms, {"full": full}, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    assert scenarios._is_rated(bench()[0], made) is good


@pytest.mark.parametrize("fault", [scenarios.stall, scenarios.kill])
def test_while_triton_is_hurt_calls_wait_past_the_budget_and_count_from_their_sending(fault: Any) -> None:
    one, load = bench()
    made = fault(one, 100.0)
    assert load.patience == [4.0]
    assert (made["late"], made["late_since_scheduled"]) == (0, made["offered"])
    assert made["sent_late_p99_ms"] == pytest.approx(3.0)
    assert made["overshoot_p99_ms"] == 0.0
    assert made["hurt_to_full_s"] is not None
    assert made["generator_cpu_share"] == pytest.approx(0.1 / 1.1)


def test_mixed_says_how_much_of_the_capacity_each_kind_takes() -> None:
    one, _ = bench()
    made = scenarios.mixed(one, 60.0)
    assert made["small_rps"] == 30.0
    assert made["small_candidates_share"] == pytest.approx(0.025)
    assert made["large_candidates_share"] == 0.25
    # The worst of its runs, for the generator's share is judged.
    assert made["generator_cpu_share"] == pytest.approx(0.4 / 1.4)
