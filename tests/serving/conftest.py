"""A catalog without files, requests for it, scorers that behave as told, and a worker around them on a real socket."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exfm.features.schema import Schema
from exfm.features.signature import blocks_of
from serving.admission.fixed import FixedLaw
from serving.admission.gate import Gate
from serving.budget.deadline import Deadline
from serving.catalog import Catalog, Golden, Vertical
from serving.inference.scorer import Scorer, Scores, checked
from serving.ladder.prior import Prior
from serving.query import RankQuery
from serving.rpc.pb import ranking_pb2 as pb
from serving.worker import Worker, WorkerOptions

Behaviour = Callable[[RankQuery, Deadline], Awaitable[Scores]]
MakeMessage = Callable[..., pb.RankRequest]
Running = Callable[..., AbstractAsyncContextManager[tuple[str, Worker]]]
BUDGET_S = 0.2
"""Wide enough for machines that have much else to do."""


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def known_probability(query: RankQuery) -> NDArray[np.float32]:
    """float32 [N, T] that depends on the candidates' first feature only."""
    share = (query.inputs["candidate_ids"][:, 0] % 1000) / 1000
    return np.stack([share, *[1 - share] * (len(query.vertical.tasks) - 1)], axis=1).astype(np.float32)


class ScriptedScorer:
    """Answers canaries as it should, and requests by its `behaviour`; counts what is in its hands."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour
        self.held = 0
        self.seen = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        if self.behaviour is None or query.request_id == "canary":
            return Scores(checked(known_probability(query), query))
        self.held += 1
        self.seen += 1
        try:
            return await self.behaviour(query, until)
        finally:
            self.held -= 1


def _vertical(schema: Schema, name: str) -> Vertical:
    own = replace(schema, verticals=tuple(replace(v, budget_ms=BUDGET_S * 1e3) for v in schema.verticals))
    own = own.for_vertical(name)
    facts, tasks = own.vertical(name), len(own.tasks)
    prior = Prior(np.arange(100, 110), np.full((10, tasks), 0.25, np.float32), np.full(tasks, 0.125, np.float32))
    empty = Golden({}, np.empty((0, tasks), np.float32), 1e-4)
    return Vertical(name, 3, own, facts.budget_ms / 1e3, facts.max_candidates, prior, empty)


def _with_golden(vertical: Vertical, inputs: dict[str, NDArray[Any]]) -> Vertical:
    count = len(inputs["candidate_ids"])
    query = RankQuery("canary", vertical, inputs, np.arange(count), np.ones(count))
    golden = Golden(inputs, known_probability(query), 1e-4)
    return replace(vertical, golden=golden)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def catalog(tiny_schema: Schema, make_request: Callable[..., dict[str, NDArray[Any]]]) -> Catalog:
    """Both verticals of `tiny_schema` in version 3; ads 100 to 109 have a prior of 0.25, others 0.125."""
    bare = [_vertical(tiny_schema, vertical.name) for vertical in tiny_schema.verticals]
    return Catalog({vertical.name: _with_golden(vertical, make_request(vertical.schema, 8)) for vertical in bare})


@pytest.fixture(scope="session")
def make_message(catalog: Catalog) -> MakeMessage:
    """`make_message(candidates=5, vertical="feed_click", seed=0)`: a sound request for `catalog`."""

    def block(rng: np.random.Generator, vertical: Vertical, side: Any, rows: int) -> pb.FeatureBlock:
        ids, numbers = blocks_of(vertical.schema, side)
        return pb.FeatureBlock(
            ids=rng.integers(0, 10**6, (rows, ids.width)).astype("<i8").tobytes(),
            numbers=rng.random((rows, numbers.width)).astype("<f4").tobytes(),
        )

    def make(candidates: int = 5, vertical: str = "feed_click", seed: int = 0) -> pb.RankRequest:
        rng, found = np.random.default_rng(seed), catalog[vertical]
        return pb.RankRequest(
            request_id=f"r{seed}",
            vertical=vertical,
            user=block(rng, found, "user", 1),
            context=block(rng, found, "context", 1),
            ads=block(rng, found, "ad", candidates),
            ad_ids=list(range(100, 100 + candidates)),
            bids=rng.random(candidates).tolist(),
        )

    return make


@pytest.fixture
def scripted() -> Callable[..., ScriptedScorer]:
    """`scripted(behaviour=None)`: a scorer that answers canaries and, without a behaviour, everything."""
    return ScriptedScorer


@pytest.fixture
def make_gate() -> Callable[..., Gate]:
    """`make_gate(limit_s=10.0, parallelism=1.0)`: a gate with a fixed limit, wide enough not to matter by default."""

    def make(limit_s: float = 10.0, parallelism: float = 1.0) -> Gate:
        return Gate(FixedLaw(limit_s), parallelism=parallelism)

    return make


@pytest.fixture
def running(catalog: Catalog) -> Running:
    """`async with running(scorer) as (address, worker)`: a ready worker on a real socket."""

    @asynccontextmanager
    async def run(scorer: Scorer, served: Catalog = catalog, **options: Any) -> AsyncIterator[tuple[str, Worker]]:
        chosen = WorkerOptions(**{"listen": "127.0.0.1:0", "drain_s": 1.0, "reply_reserve_s": 0.02, **options})
        worker = Worker(served, {"here": dict.fromkeys(served, scorer)}, chosen)
        address = f"127.0.0.1:{await worker.start()}"
        try:
            async with asyncio.timeout(10):
                await worker.readiness.wait()
            yield address, worker
        finally:
            await worker.stop()

    return run


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """`await eventually(condition, within_s=5)`: polls until the condition holds, and fails if it never does."""

    async def wait(condition: Callable[[], bool], within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 any condition, not an event of ours
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def republish() -> Callable[[Path, int], None]:
    """`republish(home, number)`: what version 1 of a vertical is, published once more under that number."""

    def publish(home: Path, number: int) -> None:
        folder = shutil.copytree(home / "1", home / str(number), copy_function=shutil.copyfile)
        text = (folder / "published.pbtxt").read_text()
        assert "versions: 1\n" in text
        config = text.replace("versions: 1\n", f"versions: {number}\n").encode()
        (folder / "published.pbtxt").write_bytes(config)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"]["published.pbtxt"] = hashlib.sha256(config).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**manifest, "version": number}))
        (home / "config.pbtxt").write_bytes(config)

    return publish
