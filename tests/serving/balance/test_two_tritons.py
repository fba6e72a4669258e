"""Two processes that speak Triton's protocol behind one worker on a real socket; one of them is stopped and killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.catalog import Catalog, Vertical
from serving.inference.endpoint import TritonEndpoint
from serving.inference.models import check_schemas
from serving.inference.triton import TritonScorer
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.pb import ranking_pb2_grpc
from serving.worker import Worker, WorkerOptions

BUDGET_S = 0.1
"""Wide enough for a machine with other work; late is later than the budget and a margin for the caller's own side."""
TRANSPORT_S = 0.05
SHED = 0


@dataclass
class Fake:
    """A running one."""

    pid: int
    address: str


@dataclass(frozen=True)
class Seen:
    """One answer: how long it took, and its tier; `SHED` where there was none."""

    took_s: float
    tier: int


@contextmanager
def _fake(catalog: Catalog, port: int = 0, pause_ms: float = 2) -> Iterator[Fake]:
    models = [f"{name}={len(vertical.tasks)}={vertical.schema.digest}" for name, vertical in catalog.items()]
    command = [sys.executable, str(Path(__file__).with_name("fake_triton.py")), str(port), str(pause_ms), *models]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Fake(process.pid, process.stdout.readline().strip())
        finally:
            process.kill()


@pytest.fixture
def tight(catalog: Catalog) -> Catalog:
    """The catalog with a tighter budget."""
    return Catalog({name: replace(vertical, budget_s=BUDGET_S) for name, vertical in catalog.items()})


@pytest.fixture
def fakes(tight: Catalog) -> Iterator[list[Fake]]:
    with _fake(tight) as first, _fake(tight) as second:
        yield [first, second]


@asynccontextmanager
async def _worker(catalog: Catalog, addresses: list[str]) -> AsyncIterator[tuple[Worker, Any]]:
    endpoints = {address: TritonEndpoint(address) for address in addresses}
    await check_schemas(catalog, tuple(endpoints.values()), {})
    scorers = {address: dict.fromkeys(catalog, TritonScorer(each)) for address, each in endpoints.items()}

    async def vet(address: str, vertical: Vertical) -> None:
        await endpoints[address].check_schema(vertical, 1.0)

    options = WorkerOptions(listen="127.0.0.1:0", reply_reserve_s=0.01, drain_s=1.0, parallelism=4)
    worker = Worker(catalog, scorers, options, vet)
    port = await worker.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(10):
                await worker.readiness.wait()
            yield worker, ranking_pb2_grpc.RankingServiceStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await worker.stop()
        for endpoint in endpoints.values():
            await endpoint.close()


async def _load(stub: Any, message: pb.RankRequest, seconds: float, gap_s: float = 0.01) -> list[Seen]:
    """Requests on a fixed beat, whatever becomes of those before."""

    async def one() -> Seen:
        began_s = time.monotonic()
        try:
            tier = (await stub.Rank(message)).tier
        except grpc.aio.AioRpcError as error:
            # Right where this machine's other work has taken the whole budget, before our code ran or later.
            if error.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            tier = SHED
        return Seen(time.monotonic() - began_s, tier)

    asked = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        asked.append(asyncio.create_task(one()))
        await asyncio.sleep(gap_s)
    return list(await asyncio.gather(*asked))


def _trusted(worker: Worker, address: str) -> bool:
    (site,) = [site for site in worker.sites if site.backend == address]
    return all(guard.trusted for guard in site.guards.values())


def _in_time(seen: list[Seen]) -> bool:
    # One in a hundred may be held up by this machine's other work.
    return sum(each.took_s > BUDGET_S + TRANSPORT_S for each in seen) <= max(len(seen) // 100, 1)


async def test_one_that_stands_still_costs_the_calls_in_its_hands_and_comes_back(
    fakes: list[Fake], tight: Catalog, make_message: Callable[..., Any], eventually: Any
) -> None:
    message = make_message(20)
    async with _worker(tight, [fake.address for fake in fakes]) as (worker, stub):
        await eventually(lambda: all(_trusted(worker, fake.address) for fake in fakes))
        assert (await _load(stub, message, 0.5))[-1].tier == pb.TIER_FULL
        favourite = max(worker.sites, key=lambda site: site.estimates["feed_click"].calls).backend
        hurt = next(fake for fake in fakes if fake.address == favourite)
        loading = asyncio.create_task(_load(stub, message, 2.0))
        await asyncio.sleep(0.3)
        os.kill(hurt.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not _trusted(worker, hurt.address))
            seen = await loading
        finally:
            os.kill(hurt.pid, signal.SIGCONT)
        went_s = time.monotonic()
        await eventually(lambda: _trusted(worker, hurt.address))
        assert time.monotonic() - went_s < 1.0
        assert _in_time(seen)
        # The prior answers what was in its hands and what this machine's other work has held up; no more.
        assert sum(each.tier != pb.TIER_FULL for each in seen) < len(seen) / 5
        await eventually(lambda: all(site.gate.calls == 0 for site in worker.sites))


async def test_all_of_them_stand_still_and_requests_get_the_prior_at_once(
    fakes: list[Fake], tight: Catalog, make_message: Callable[..., Any], eventually: Any
) -> None:
    message = make_message(20)
    async with _worker(tight, [fakes[0].address]) as (worker, stub):
        assert (await _load(stub, message, 0.3))[-1].tier == pb.TIER_FULL
        os.kill(fakes[0].pid, signal.SIGSTOP)
        try:
            assert _in_time(await _load(stub, message, 0.5))
            assert not _trusted(worker, fakes[0].address)
            quick = await _load(stub, message, 0.5)
            assert {each.tier for each in quick} <= {pb.TIER_PRIOR, SHED}
            assert sorted(each.took_s for each in quick)[len(quick) // 2] < BUDGET_S / 4
        finally:
            os.kill(fakes[0].pid, signal.SIGCONT)
        went_s = time.monotonic()
        await eventually(lambda: _trusted(worker, fakes[0].address))
        assert time.monotonic() - went_s < 1.0
        assert (await _load(stub, message, 0.3))[-1].tier == pb.TIER_FULL


async def test_one_that_is_killed_is_done_without_and_its_successor_is_vetted(
    fakes: list[Fake], tight: Catalog, make_message: Callable[..., Any], eventually: Any
) -> None:
    message = make_message(20)
    async with _worker(tight, [fake.address for fake in fakes]) as (worker, stub):
        await eventually(lambda: all(_trusted(worker, fake.address) for fake in fakes))
        loading = asyncio.create_task(_load(stub, message, 1.0))
        await asyncio.sleep(0.3)
        os.kill(fakes[0].pid, signal.SIGKILL)
        seen = await loading
        assert _in_time(seen)
        assert sum(each.tier != pb.TIER_FULL for each in seen) < 10
        await eventually(lambda: not _trusted(worker, fakes[0].address))
        assert worker.readiness.ready
        port = int(fakes[0].address.rpartition(":")[2])
        other = {name: replace(vertical, schema=tight["feed_long_view"].schema) for name, vertical in tight.items()}
        with _fake(Catalog(other), port):
            site = next(site for site in worker.sites if site.backend == fakes[0].address)
            wanted = "has loaded a model for schema"
            await eventually(lambda: wanted in site.guards["feed_click"].last, within_s=10)
            assert not site.guards["feed_click"].trusted
        with _fake(tight, port):
            await eventually(lambda: _trusted(worker, fakes[0].address), within_s=10)


async def test_a_slow_one_is_left_alone_by_most_requests(
    tight: Catalog, make_message: Callable[..., Any], eventually: Any
) -> None:
    message = make_message(20)
    with _fake(tight, pause_ms=2) as fast, _fake(tight, pause_ms=30) as slow:
        async with _worker(tight, [slow.address, fast.address]) as (worker, stub):
            await eventually(lambda: _trusted(worker, slow.address) and _trusted(worker, fast.address))
            seen = await _load(stub, message, 1.5)
            calls = {site.backend: site.estimates["feed_click"].calls for site in worker.sites}
            assert _in_time(seen)
            assert calls[slow.address] < 0.3 * calls[fast.address], calls
            assert _trusted(worker, slow.address)
