"""The generator as a process, against a server in this one that answers by the message."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bench.overload.figures import figures
from bench.overload.generator import outcome_of, tier_of
from bench.overload.load import loading
from bench.overload.plant import Plant
from bench.overload.schedule import Stream
from loadtest.checking.outcomes import Outcome
from serving.rpc.pb import ranking_pb2 as pb

PRIOR = pb.RankResponse(ad_ids=[1, 2], tier=pb.TIER_PRIOR).SerializeToString()
BUDGET_S = 0.25


async def _answer(message: bytes, context: Any) -> bytes:
    if message == b"shed":
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
    if message == b"hang":
        await asyncio.sleep(30)
    return PRIOR


async def _serve(port: "list[int]", up: threading.Event, stop: asyncio.Event) -> None:
    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Rank": grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("exfm.ranking.v1.RankingService", methods),))
    port.append(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    up.set()
    await stop.wait()
    await server.stop(0)


@pytest.fixture
def address() -> Iterator[str]:
    port: list[int] = []
    loop, up, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(port, up, stop)))
    thread.start()
    assert up.wait(10)
    yield f"127.0.0.1:{port[0]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_what_was_sent_comes_back_as_a_record(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = {1: [b"answer"], 2: [b"shed"], 3: [b"hang"]}
    acted: list[str] = []
    plant = Plant(os.getpid(), address, "")
    with loading(plant, pools, tmp_path, BUDGET_S, connections=2, seed=0) as load:
        streams = [Stream(1, 40.0, 1.0), Stream(2, 20.0, 1.0), Stream(3, 10.0, 1.0)]
        run = load.run(streams, "test", [(0.5, lambda: acted.append("now"))])
        monkeypatch.setattr("bench.overload.load.spent_s", lambda: 0.0)
        again = load.run([Stream(3, 20.0, 0.5)], "again", patience=1.5)
    record = run.record
    assert acted == ["now"]
    assert set(record.outcome[record.stream == 0]) == {Outcome.PRIOR}
    assert set(record.outcome[record.stream == 1]) == {Outcome.SHED}
    assert set(record.outcome[record.stream == 2]) == {Outcome.UNANSWERED}
    made = figures(record, run.seconds, BUDGET_S)
    assert made.late >= int((record.stream == 2).sum()) > 0
    assert abs(np.median(record.latency_s[record.stream == 2]) - BUDGET_S) < 0.2
    assert 0 < run.generator_cpu_share < 1
    # Patient calls wait for longer than their budget.
    assert len(again.record) > 0
    assert (again.record.latency_s > 1.4 * BUDGET_S).all()
    # What others took is what is left, be it less than nothing.
    assert again.other_cpu_s == -(again.generator_cpu_s + again.server_cpu_s) < 0


def test_outcomes() -> None:
    assert outcome_of(tier_of(PRIOR)) is Outcome.PRIOR
    assert outcome_of(ValueError("anything")) is Outcome.FAILED
