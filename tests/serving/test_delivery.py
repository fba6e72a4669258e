"""What was not handed over to its caller is no impression: it is counted, and nothing is logged. On real sockets."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from exfm.events import impression
from exfm.events.log import BEGIN
from exfm.events.sqlite import SqliteLog
from serving import ranker
from serving.catalog import Catalog
from serving.rpc.codec import enter
from serving.rpc.servicer import SERVICE

READ_S = 0.1
"""In which the server's transport takes note of what a caller has done, while the event loop stands still."""


class Last:
    """The last thing that is done to an answer before it goes, after the last look at its deadline: held up here."""

    def __init__(self, enter: Callable[..., None]) -> None:
        self._enter = enter
        self.reached, self.going = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any) -> None:
        self._enter(*arguments)
        self.reached.set()
        assert self.going.wait(5)


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> Last:
    made = Last(enter)
    monkeypatch.setattr(ranker, "enter", made)
    return made


class Log:
    """A server's log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.sqlite"
        self.url = f"sqlite:{self._path}"

    def requests(self) -> list[str]:
        with closing(SqliteLog(self._path)) as log:
            records = log.read(impression.TOPIC, BEGIN, 100)
        return [name for each in records for name in impression.decode(each.payload).column("request_id").to_pylist()]


Serving = Callable[..., Any]


@pytest.fixture
def serving(catalog: Catalog, running: Any, scripted: Any, tmp_path: Path) -> Serving:
    """`async with serving() as (address, worker, log)`."""
    wide = Catalog({name: replace(vertical, budget_s=5.0) for name, vertical in catalog.items()})

    @asynccontextmanager
    async def serve() -> AsyncIterator[tuple[str, Any, Log]]:
        log = Log(tmp_path)
        async with running(scripted(), wide, log=log.url) as (address, worker):
            yield address, worker, log

    return serve


@contextmanager
def channel_to(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(5)
        yield channel


def leave(address: str, payload: bytes, last: Last, how: str) -> None:
    """Ask, and be gone while the answer is made; on a thread of its own, for the event loop stands still."""
    with channel_to(address) as channel, suppress(grpc.RpcError, grpc.FutureCancelledError):
        limit_s = 0.3 if how == "deadline" else 5.0
        if how == "stream":
            stream: Any = channel.stream_stream(f"/{SERVICE}/RankStream")
            call = stream(iter([payload]), timeout=limit_s)
        else:
            rank: Any = channel.unary_unary(f"/{SERVICE}/Rank")
            call = rank.future(payload, timeout=limit_s)
        assert last.reached.wait(5)
        if how == "deadline":
            time.sleep(limit_s)
        elif how == "connection":
            channel.close()
        else:
            call.cancel()
        time.sleep(READ_S)
        last.going.set()


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection", "stream"])
async def test_who_had_gone_has_seen_no_ads(
    serving: Serving, last: Last, make_message: Any, eventually: Any, how: str
) -> None:
    gone, stays = (make_message(3, seed=seed).SerializeToString() for seed in (1, 2))
    async with serving() as (address, worker, log):
        await asyncio.to_thread(leave, address, gone, last, how)
        await eventually(lambda: worker.state()["log"]["dropped"] == {"not_delivered": 1})
        async with grpc.aio.insecure_channel(address) as channel:
            rank: Any = channel.unary_unary(f"/{SERVICE}/Rank")
            await rank(stays, timeout=5)
    assert worker.state()["log"] == {"written": {"impressions": 1}, "dropped": {"not_delivered": 1}, "queued": 0}
    assert log.requests() == ["r2"]


async def test_who_had_gone_tells_the_reserve_what_its_answer_took_to_make_and_no_more(
    serving: Serving, last: Last, make_message: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as (address, worker, _):
        told: list[float] = []
        monkeypatch.setattr(worker.reserve, "observe", told.append)
        began_s = time.monotonic()
        await asyncio.to_thread(leave, address, make_message(3).SerializeToString(), last, "cancel")
        await eventually(lambda: len(told) == 1)
    assert READ_S <= told[0] <= time.monotonic() - began_s
