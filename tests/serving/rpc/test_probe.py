import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from serving.rpc import probe as probing
from serving.rpc.probe import DoorProbe


@pytest.fixture
async def waits() -> list[float]:
    return []


@pytest.fixture
async def probe(waits: list[float]) -> AsyncIterator[DoorProbe]:
    made, server = DoorProbe(waits.append, 0.005), grpc.aio.server()
    made.attach(server)
    await server.start()
    made.start()
    yield made
    await made.stop()
    await server.stop(None)


async def test_an_idle_server_has_a_short_way_in(probe: DoorProbe, waits: list[float], eventually: Any) -> None:
    await eventually(lambda: len(waits) >= 20)
    assert 0 < min(waits) < 0.02
    assert probe.charge_s(time.monotonic()) < 1.0


@pytest.mark.usefixtures("probe")
async def test_a_probe_on_its_way_has_taken_at_least_as_long_as_it_is_out(waits: list[float], eventually: Any) -> None:
    await eventually(lambda: len(waits) >= 3)

    for turn in range(200):
        await asyncio.sleep(0.0003 * (turn % 20))  # until a stall meets a probe on its way
        time.sleep(0.03)  # noqa: ASYNC251 the stall itself
        if max(waits) >= 0.025:
            return
    pytest.fail(f"none of 200 stalls was seen; the longest wait was {max(waits)}")


async def test_while_the_way_is_short_one_probe_speaks_for_several_intervals(
    waits: list[float], eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, server, taken = DoorProbe(waits.append, 0.002, short_s=60.0), grpc.aio.server(), 0
    take = probe._take

    async def count(payload: bytes, context: Any) -> bytes:
        nonlocal taken
        taken += 1
        return await take(payload, context)

    monkeypatch.setattr(probe, "_take", count)
    probe.attach(server)
    await server.start()
    probe.start()
    try:
        await eventually(lambda: len(waits) >= 40)
        # One connected, and one may be on its way.
        assert (taken - 2) * 4 <= len(waits)
    finally:
        await probe.stop()
        await server.stop(None)


async def test_a_stopped_probe_charges_nothing_and_leaves_no_socket(waits: list[float]) -> None:
    probe, server = DoorProbe(waits.append), grpc.aio.server()
    probe.attach(server)
    await server.start()
    probe.start()
    await probe.stop()
    await server.stop(None)
    assert probe.charge_s(time.monotonic() + 100) == 0


async def test_a_server_that_is_starved_at_its_start_is_measured_later_and_charges_nothing_for_it(
    waits: list[float], eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probing, "_CALL_S", 0.05)
    monkeypatch.setattr(probing, "_PAUSE_S", 0.01)
    passed_s = 0.0

    def clock() -> float:
        return time.monotonic() + passed_s

    probe, server = DoorProbe(waits.append, 0.005, clock), grpc.aio.server()
    probe.attach(server)
    probe.start()
    try:
        await eventually(lambda: caplog.text.count("DEADLINE_EXCEEDED") >= 2)
        passed_s = 100.0
        assert probe.charge_s(clock()) == 0
        monkeypatch.setattr(probing, "_CALL_S", 5.0)
        await server.start()
        await eventually(lambda: len(waits) >= 3)
        assert max(waits) < 1
        assert probe.charge_s(clock()) < 1
    finally:
        await probe.stop()
        await server.stop(None)


async def test_a_probe_that_cannot_go_on_is_stopped_without_a_word(
    waits: list[float], eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def choke(wait_s: float) -> None:
        waits.append(wait_s)
        raise ValueError("full")

    probe, server = DoorProbe(choke, 0.005), grpc.aio.server()
    probe.attach(server)
    await server.start()
    probe.start()
    await eventually(lambda: "ValueError: full" in caplog.text)
    assert probe.charge_s(time.monotonic() + 100) < 100
    await eventually(lambda: len(waits) >= 2)
    await probe.stop()
    await server.stop(None)


async def test_a_probe_that_fails_is_no_wait(
    waits: list[float], eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probing, "_CALL_S", 0.2)
    monkeypatch.setattr(probing, "_PAUSE_S", 0.01)
    probe, server = DoorProbe(waits.append, 0.005), grpc.aio.server()
    probe.attach(server)
    await server.start()
    probe.start()
    await eventually(lambda: len(waits) >= 3)
    await server.stop(None)
    await eventually(lambda: "could not be measured: UNAVAILABLE" in caplog.text)
    seen = len(waits)
    await eventually(lambda: caplog.text.count("could not be measured") >= 3)
    assert len(waits) == seen
    await probe.stop()
