"""Thousands of seeded worlds without a violation, and broken parts that the same worlds catch."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from bench.simulation.__main__ import run_seeds
from bench.simulation.virtual import StuckError, VirtualLoop, run
from bench.simulation.world import ViolationError, simulate
from serving.admission.shares import Shares
from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.inference.batcher import EdfBatcher
from serving.inference.breaker import Breaker, Cause
from serving.inference.edf import EdfQueue
from serving.ladder.call import Call

SEEDS = 2000


@pytest.mark.timeout(300)
def test_no_seed_breaks_an_invariant() -> None:
    report = run_seeds(0, SEEDS, quiet=True)
    assert report["examples"] == []
    assert report["seeds"] == SEEDS
    assert set(report["ends"]) >= {"full", "trimmed", "prior", "shed", "cancelled"}


def test_a_seed_is_a_world() -> None:
    once, again, other = (simulate(seed).ends for seed in (11, 11, 12))
    assert once == again != other


def violations(seeds: int, first: int = 0) -> Counter[str]:
    return Counter(text.split(": ", 1)[1].split(" ")[0] for text in run_seeds(first, seeds, quiet=True)["examples"])


def test_a_watchdog_that_sleeps_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def patient(_: Watchdog, work: Coroutine[Any, Any, Any], until: Deadline) -> Any:
        del until
        return await work

    monkeypatch.setattr(Watchdog, "within", patient)
    assert violations(20)


def test_a_gate_that_lets_everybody_in_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shares, "admits", lambda *_: True)
    assert violations(40)


def test_a_breaker_that_never_closes_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    close = Breaker._close
    monkeypatch.setattr(Breaker, "_close", lambda self: close(self) if self.cause is Cause.NEW else None)
    assert violations(20)


def test_hedges_that_keep_their_permits_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "end", lambda *_: None)
    assert violations(20)


def test_a_queue_that_outlives_the_trust_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdfBatcher, "eject", lambda _: None)
    assert violations(90, first=190)  # rare: a handful in four hundred worlds


def test_a_queue_that_keeps_the_hopeless_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdfBatcher, "_sweep", lambda _: None)
    assert violations(40)


def test_batches_of_whoever_waits_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdfQueue, "_joins", lambda *_: True)
    assert violations(40)


def test_calls_that_keep_their_place_for_ever_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdfBatcher, "_give_up", lambda *_: None)
    monkeypatch.setattr(EdfBatcher, "_ended", lambda *_: None)
    assert violations(20)


def test_a_failing_seed_is_named_in_the_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shares, "give_back", lambda *_: None)
    with pytest.raises(ViolationError, match="seed 3 at"):
        simulate(3)


def test_time_jumps_from_timer_to_timer() -> None:
    loop = VirtualLoop()

    async def work() -> list[float]:
        seen = []
        for pause_s in (3600.0, 0.0, 0.5):
            await asyncio.sleep(pause_s)
            seen.append(loop.time())
        return seen

    assert run(work(), loop) == [3600.0, 3600.0, 3600.5]


def test_waiting_for_nothing_is_an_error_instead_of_a_hang() -> None:
    loop = VirtualLoop()

    async def work() -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        run(work(), loop)
