import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

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


async def test_a_stopped_probe_charges_nothing_and_leaves_no_socket(waits: list[float]) -> None:
    probe, server = DoorProbe(waits.append), grpc.aio.server()
    probe.attach(server)
    await server.start()
    probe.start()
    await probe.stop()
    await server.stop(None)
    assert probe.charge_s(time.monotonic() + 100) == 0
