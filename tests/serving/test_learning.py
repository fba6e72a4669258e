"""The asynchronous plane as the server runs it, over real sockets: what is logged is what was answered and seen."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from exfm.augment.join.joiner import Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.events import backends, impression, outcome
from exfm.events.ids import impression_key
from exfm.events.log import BEGIN, LogUnavailableError
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog
from exfm.features.embeddings import quantise
from exfm.features.history import History, inputs_at, pack, row_of, unpack
from exfm.features.schema import Columns, HistorySpec, Schema
from exfm.features.signature import HISTORY
from serving.budget.clock import wall_ms
from serving.catalog import Catalog
from serving.client import (
    BlockingRankingClient,
    InvalidRequestError,
    NotOfferedError,
    OutcomeCall,
    RankCall,
    RankingClient,
)
from serving.features import store as stores
from serving.features.store import OutageError
from serving.inference.scorer import Scores
from serving.query import RankQuery
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.servicer import SERVICE

Make = Callable[..., pb.RankRequest]
SPEC = HistorySpec(length=3, dimension=4, delay_ms=10)
USER = 77


class Caller:
    """A client of one server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._method: Any = lambda name: channel.unary_unary(f"/{SERVICE}/{name}")
        self.stream: Any = channel.stream_stream(f"/{SERVICE}/RankStream")

    async def rank(self, message: pb.RankRequest) -> pb.RankResponse:
        return pb.RankResponse.FromString(await self._method("Rank")(message.SerializeToString(), timeout=5))

    async def record(self, *outcomes: pb.Outcome) -> int:
        payload = pb.RecordOutcomesRequest(outcomes=outcomes).SerializeToString()
        return pb.RecordOutcomesResponse.FromString(await self._method("RecordOutcomes")(payload, timeout=5)).accepted


@dataclass(frozen=True)
class Plane:
    """Servers with a log in a folder, and requests for them."""

    folder: Path
    catalog: Catalog
    message: Make
    running: Any
    scripted: Any

    @property
    def url(self) -> str:
        return f"sqlite:{self.folder / 'log.sqlite'}"

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[tuple[Caller, Any]]:
        """A caller and the worker that it calls."""
        async with self.at(**options) as (address, worker), grpc.aio.insecure_channel(address) as channel:
            yield Caller(channel), worker

    @asynccontextmanager
    async def at(
        self, catalog: Catalog | None = None, behaviour: Any = None, **options: Any
    ) -> AsyncIterator[tuple[str, Any]]:
        """The worker and its address."""
        served, chosen = catalog or self.catalog, {"log": self.url, **options}
        async with self.running(self.scripted(behaviour), served, **chosen) as (address, worker):
            yield address, worker

    def log(self) -> SqliteLog:
        return SqliteLog(self.folder / "log.sqlite")

    def impressions(self) -> list[dict[str, Any]]:
        with closing(self.log()) as log:
            records = log.read(impression.TOPIC, BEGIN, 10_000)
        return [row for each in records for row in impression.decode(each.payload).to_pylist()]

    def outcomes(self) -> list[bytes]:
        """Their impressions' keys."""
        with closing(self.log()) as log:
            return [row.key for each in log.read(outcome.TOPIC, BEGIN, 99) for row in outcome.decode(each.payload)]


@pytest.fixture
def wide(catalog: Catalog) -> Catalog:
    """Verticals with budgets for a machine that has much else to do."""
    return Catalog({name: replace(vertical, budget_s=1.0) for name, vertical in catalog.items()})


@pytest.fixture
def plane(tmp_path: Path, wide: Catalog, make_message: Make, running: Any, scripted: Any) -> Plane:
    return Plane(tmp_path, wide, make_message, running, scripted)


def told(message: pb.RankRequest, ad: int, task: str = "click", time_ms: int = 0) -> pb.Outcome:
    return pb.Outcome(request_id=message.request_id, ad_id=ad, task=task, value=1.0, time_ms=time_ms)


async def test_the_log_has_what_was_answered(plane: Plane) -> None:
    sent = [plane.message(6, "feed_click" if seed % 2 else "feed_long_view", seed) for seed in range(8)]
    unnamed, shadow = plane.message(4, seed=8), plane.message(4, seed=9)
    unnamed.request_id, shadow.priority = "", pb.PRIORITY_SHADOW
    async with plane.serving(shown=2) as (caller, worker):
        answers = [await caller.rank(each) for each in [*sent[:5], unnamed, shadow]]
        del answers[5:]
        replies = caller.stream(iter([each.SerializeToString() for each in sent[5:]]), timeout=5)
        answers += [pb.RankStreamResponse.FromString(each).ranking async for each in replies]
    kept = {(row["request_id"], row["place"]): row for row in plane.impressions()}
    assert len(kept) == 2 * len(sent)
    assert worker.state()["log"] == {"written": {"impressions": 16}, "dropped": {"no_request_id": 2}, "queued": 0}
    asked = {message.request_id: message for message in sent}
    for answer in answers:
        for place in range(2):
            row, message = kept[answer.request_id, place], asked[answer.request_id]
            assert (row["ad"], row["vertical"]) == (answer.ad_ids[place], message.vertical)
            assert row["key"] == impression_key(message.vertical, answer.request_id, row["ad"])
            assert (row["tier"], row["reason"], row["version"]) == ("full", "", answer.model.version)
            scores = [task.probabilities[place] for task in answer.scores]
            assert np.frombuffer(row["probability"], "<f4").tolist() == pytest.approx(scores, rel=1e-6)
            at = list(message.ad_ids).index(row["ad"])
            for side, many in (("user", 1), ("context", 1), ("ad", 6)):
                block = message.ads if side == "ad" else getattr(message, side)
                for kind in ("ids", "numbers"):
                    width = len(getattr(block, kind)) // many
                    start = at * width if side == "ad" else 0
                    assert row[f"{side}_{kind}"] == getattr(block, kind)[start : start + width]


async def test_an_outcome_is_durable_when_it_is_acknowledged_and_has_its_fate(
    plane: Plane, tiny_schema: Schema
) -> None:
    message = plane.message(6)
    async with plane.serving() as (caller, _):
        shown = (await caller.rank(message)).ad_ids[0]
        now_ms, keys = wall_ms(), list[bytes]()
        for sent in ([told(message, shown, time_ms=now_ms), told(message, 12345, time_ms=now_ms)],) * 2:
            assert await caller.record(*sent) == 2
            keys += [impression_key("feed_click", "r0", ad) for ad in (shown, 12345)]
            assert plane.outcomes() == keys
        assert await caller.record() == 0
    log = plane.log()
    options = JoinOptions({}, 1e9, 0.001, idle_s=0.0)
    joiner = Joiner(
        log, plane.folder / "join.sqlite", tiny_schema, options, now_ms=lambda: 10**15, clock=iter(range(99)).__next__
    )
    while not joiner.step().idle:
        pass
    counts = joiner.accounts()
    joiner.close()
    log.close()
    assert (counts["examples"], counts["outcomes_used"]) == (1, 1)
    assert (counts["outcomes_duplicate"], counts["outcomes_orphan"]) == (2, 1)


async def test_the_clients_tell_outcomes(plane: Plane) -> None:
    call = RankCall("feed_click", ad_ids=["a", 7], ads=[{"ad": "a"}, {"ad": 7}], request_id="named")
    async with plane.at(shown=2) as (address, _):
        async with RankingClient(address) as client:
            ranking = await client.rank(call, timeout_s=5)
            told = [OutcomeCall(ranking.request_id, ad, "click", happened=ad == "a") for ad in ranking.ad_ids]
            assert await client.record(told) == 2
            assert await client.record([]) == 0
        with BlockingRankingClient(address) as blocking:
            assert await asyncio.to_thread(blocking.record, told) == 2
            with pytest.raises(InvalidRequestError, match="outcome 0: task 'shares'"):
                await asyncio.to_thread(blocking.record, [OutcomeCall("named", 7, "shares")])
    shown = [row["key"] for row in plane.impressions()]
    assert plane.outcomes() == 2 * shown
    async with plane.at(log="") as (address, _), RankingClient(address) as client:
        with pytest.raises(NotOfferedError):
            await client.record(told)


async def test_outcomes_that_cant_be_taken_are_refused_whole(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MemoryLog):
        def append(self, *_: Any) -> bool:
            raise LogUnavailableError("disk full")

    monkeypatch.setitem(backends.BACKENDS, "fake", lambda _: Full())
    message, now_ms = plane.message(5), wall_ms()
    async with plane.serving(log="fake:log") as (caller, worker):
        for bad, code in (
            (told(message, 1, "shares", now_ms), "INVALID_ARGUMENT"),
            (told(message, 1), "INVALID_ARGUMENT"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.record(told(message, 1, time_ms=now_ms), bad)
            assert caught.value.code().name == code
            assert "outcome 1: " in str(caught.value.details())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.record(told(message, 1, time_ms=now_ms))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("grpc-retry-pushback-ms", "1000") in tuple(caught.value.trailing_metadata())
        assert (await caller.rank(message)).tier == pb.TIER_FULL
    assert worker.state()["log"] == {"written": {}, "dropped": {"log_failed": 1}, "queued": 0}


async def test_a_stuck_log_holds_no_answer_up_and_what_it_cant_take_is_counted(
    plane: Plane, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = threading.Event()

    class Stuck(MemoryLog):
        def append(self, *record: Any) -> bool:
            moving.wait(20)
            return super().append(*record)

    monkeypatch.setitem(backends.BACKENDS, "fake", lambda _: Stuck())
    async with plane.serving(log="fake:log", shown=500) as (caller, worker):
        try:
            answers = [await caller.rank(plane.message(500, seed=seed)) for seed in range(25)]
            assert {answer.tier for answer in answers} == {pb.TIER_FULL}
            assert all(answer.ledger.spent_us < answer.ledger.budget_us for answer in answers)
            await eventually(lambda: worker.state()["log"]["dropped"].get("queue_full", 0) > 2000)
            state = worker.state()["log"]
            assert state["dropped"]["queue_full"] + state["queued"] == 25 * 500
        finally:
            moving.set()
    state = worker.state()["log"]
    assert state["written"]["impressions"] + state["dropped"]["queue_full"] == 25 * 500
    assert state["queued"] == 0


class Watching:
    """Scores by `known_probability`'s stand-in and remembers the histories that it was given."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    async def __call__(self, query: RankQuery, _: Any) -> Scores:
        self.seen[query.request_id] = query.inputs.get(HISTORY)
        return Scores(np.full((len(query), len(query.vertical.tasks)), 0.5, np.float32))


@pytest.fixture
def reading(wide: Catalog) -> Catalog:
    """`feed_click` reads histories of the user in its first column; `feed_long_view` doesn't."""
    plain = wide["feed_click"]
    schema = replace(plain.schema, history=SPEC, columns=Columns(user="user"))
    golden = replace(plain.golden, inputs={**plain.golden.inputs, HISTORY: np.zeros((1, SPEC.width), np.float32)})
    return Catalog({**wide, "feed_click": replace(plain, schema=schema, golden=golden)})


def of(user: int, message: pb.RankRequest) -> pb.RankRequest:
    ids = np.frombuffer(message.user.ids, "<i8").copy()
    ids[0] = user
    message.user.ids = ids.tobytes()
    return message


def events(count: int, dimension: int = SPEC.dimension) -> History:
    values = np.random.default_rng(0).uniform(-1, 1, (count, dimension)).astype(np.float32)
    times, ones = np.arange(1, count + 1), np.ones(count, np.uint32)
    return History(times, times.astype(np.uint64), ones, quantise(values, "int4"), dimension, "int4")


async def test_the_logged_history_is_the_one_that_the_model_saw(plane: Plane, reading: Catalog) -> None:
    store = LmdbStore(plane.folder / "store")
    store.update({USER: events(5)}, 1)
    store.close()
    saw, ledgers = Watching(), {}
    async with plane.serving(catalog=reading, behaviour=saw, histories=f"lmdb:{plane.folder / 'store'}") as (
        caller,
        worker,
    ):
        found, seed = worker.histories.state, 0
        async with asyncio.timeout(10):
            while found()["found"].get("hit", 0) < 3:  # on a busy machine some look-ups take too long
                message = of(USER, plane.message(4, seed=seed))
                ledgers[message.request_id] = (await caller.rank(message)).ledger.stages
                seed += 1
        await caller.rank(plane.message(4, "feed_long_view", seed=seed))
        assert sum(found()["found"].values()) == seed
    rows = {row["request_id"]: row for row in plane.impressions()}
    assert len(rows) == seed + 1
    assert (saw.seen[f"r{seed}"], rows[f"r{seed}"]["history"]) == (None, b"")
    hits = 0
    for name, stages in ledgers.items():
        assert [stage.name for stage in stages] == ["wait", "decode", "history", "score", "order", "encode"]
        row, past = rows[name], np.zeros((1, SPEC.width), np.float32)
        if row["history"]:
            hits += 1
            past = row_of(inputs_at(unpack(row["history"]), row["time_ms"], delay_ms=10, length=3))
            assert past[0, 12:15].tolist() == [1, 1, 1]
        np.testing.assert_array_equal(saw.seen[name], past)
    assert hits >= 3


class Store:
    """A history store that can be stuck or broken."""

    def __init__(self) -> None:
        self.moving, self.value, self.broken = threading.Event(), b"", False
        self.moving.set()

    def get(self, _: int) -> bytes | None:
        self.moving.wait(20)
        if self.broken:
            raise OutageError("gone")
        return self.value or None

    def close(self) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()
    monkeypatch.setitem(stores.BACKENDS, "fake", lambda _: lambda: made)
    yield made
    made.moving.set()


WITHOUT: dict[str, tuple[Callable[[Store], Any], int]] = {
    "miss": (lambda _: None, USER),
    "no_user": (lambda _: None, -(2**63)),
    "timeout": (lambda store: store.moving.clear(), USER),
    "outage": (lambda store: setattr(store, "broken", True), USER),
    "broken": (lambda store: setattr(store, "value", b"junk"), USER),
    "another width": (lambda store: setattr(store, "value", pack(events(2, dimension=5))), USER),
}


@pytest.mark.parametrize("case", WITHOUT)
async def test_without_a_history_the_answer_is_full_in_time_and_counted(
    plane: Plane, reading: Catalog, store: Store, case: str
) -> None:
    change, user = WITHOUT[case]
    change(store)
    saw, asked, reason = Watching(), 5, "broken" if case == "another width" else case
    async with plane.serving(catalog=reading, behaviour=saw, histories="fake:store") as (caller, worker):
        answers = [await caller.rank(of(user, plane.message(4, seed=seed))) for seed in range(asked)]
        found = worker.state()["histories"]["found"]
    assert sum(found.values()) == asked
    assert found[reason] + found.get("timeout", 0) * (case != "timeout") == asked
    assert not found.get("hit")
    for answer in answers:
        assert answer.tier == pb.TIER_FULL
        spent = {stage.name: stage.duration_us for stage in answer.ledger.stages}
        assert spent["history"] < 200_000
        assert not saw.seen[answer.request_id].any()
    assert [row["history"] for row in plane.impressions()] == [b""] * asked


async def test_without_a_store_a_student_that_reads_histories_gets_empty_ones(
    plane: Plane, reading: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    saw = Watching()
    async with plane.serving(catalog=reading, behaviour=saw, log="") as (caller, worker):
        assert (await caller.rank(plane.message(4))).tier == pb.TIER_FULL
        state = worker.state()
    assert (state["log"], state["histories"]) == (None, None)
    assert saw.seen["r0"].shape == (1, SPEC.width)
    assert not saw.seen["r0"].any()
    assert "feed_click: its student reads histories and gets none" in caplog.text


async def test_the_log_is_told_when_the_reply_has_gone_out(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, payload = threading.Event(), plane.message(5).SerializeToString()
    in_time: list[bool] = []

    def ask(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            rank: Any = channel.unary_unary(f"/{SERVICE}/Rank")
            rank(payload, timeout=5)
            answered.set()

    async with plane.at() as (address, worker):
        # The event loop stands still in it: only what has left before can reach the caller.
        monkeypatch.setattr(worker.keeper, "keep", lambda *_: in_time.append(answered.wait(3)))
        await asyncio.to_thread(ask, address)
    assert in_time == [True]
