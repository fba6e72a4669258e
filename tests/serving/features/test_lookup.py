"""Histories inside their share: a hit, and every way to go without."""

import asyncio
import multiprocessing
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.augment.store.backends import open_store
from exfm.augment.store.store import StoreOptions
from exfm.features.embeddings import quantise
from exfm.features.encoding import MISSING
from exfm.features.history import History, unpack
from serving.features import store as store_module
from serving.features.lookup import HistoryLookup, LookupOptions
from serving.features.store import LmdbReader, OutageError, opener

Eventually = Callable[..., Awaitable[None]]


class Scripted:
    """A store that can be slow or broken."""

    def __init__(self) -> None:
        self.open, self.broken, self.opened = threading.Event(), False, 0
        self.error: Exception = OutageError("gone")
        self.closes = True
        self.read: list[int] = []
        self.open.set()

    def connect(self) -> "Scripted":
        self.opened += 1
        return self

    def get(self, user: int) -> bytes | None:
        self.read.append(user)
        self.open.wait(10)
        if self.broken:
            raise self.error
        return b"h%d" % user if user < 10 else None

    def close(self) -> None:
        if not self.closes:
            raise self.error


@pytest.fixture
def store() -> Scripted:
    return Scripted()


@pytest.fixture
def make(store: Scripted) -> Iterator[Callable[..., HistoryLookup]]:
    started: list[HistoryLookup] = []

    def start(**options: Any) -> HistoryLookup:
        made = HistoryLookup(store.connect, LookupOptions(**{"share": 1.0, "most_s": 5.0, **options}))
        made.start()
        started.append(made)
        return made

    yield start
    store.open.set()
    for each in started:
        each.close()


async def test_a_hit_and_a_miss(make: Callable[..., HistoryLookup]) -> None:
    lookup = make()
    assert await lookup.packed(7, 1.0) == b"h7"
    assert await lookup.packed(12, 1.0) == b""
    assert await lookup.packed(int(MISSING), 1.0) == b""
    assert lookup.found == {"hit": 1, "miss": 1, "no_user": 1}


async def test_a_slow_store_costs_no_more_than_the_share(make: Callable[..., HistoryLookup], store: Scripted) -> None:
    lookup = make(share=0.1)
    store.open.clear()
    before_s = time.monotonic()
    assert await lookup.packed(7, 0.2) == b""
    assert 0.015 < time.monotonic() - before_s < 5  # the store answers never
    assert lookup.found["timeout"] == 1


async def test_while_the_store_is_stuck_only_so_many_wait(
    make: Callable[..., HistoryLookup], store: Scripted, eventually: Eventually
) -> None:
    lookup = make(waiting=3, most_s=0.01)
    store.open.clear()
    assert await asyncio.gather(*(lookup.packed(number, 1.0) for number in range(9))) == [b""] * 9
    assert (lookup.found["timeout"], lookup.found["busy"]) == (3, 6)
    store.open.set()
    await eventually(lambda: lookup._pending == 0)
    assert await lookup.packed(1, 100.0) in {b"h1", b""}


async def test_what_has_timed_out_is_not_read_any_more(
    make: Callable[..., HistoryLookup], store: Scripted, eventually: Eventually
) -> None:
    lookup = make(most_s=0.01)
    store.open.clear()
    await asyncio.gather(*(lookup.packed(number, 1.0) for number in range(9)))
    store.open.set()
    await eventually(lambda: lookup._pending == 0)
    assert store.read == [0]
    assert lookup.found == {"timeout": 9}


async def test_no_time_left_means_no_look_up(make: Callable[..., HistoryLookup]) -> None:
    lookup = make()
    assert await lookup.packed(1, 0.0) == b""
    assert lookup.found == {"busy": 1}


async def test_after_an_outage_the_store_is_opened_again_but_not_at_once(
    make: Callable[..., HistoryLookup], store: Scripted
) -> None:
    lookup = make(retry_s=0.1)
    store.broken = True
    assert await lookup.packed(1, 1.0) == b""
    assert await lookup.packed(1, 1.0) == b""
    assert (store.opened, lookup.found["outage"]) == (1, 2)
    store.broken = False
    async with asyncio.timeout(5):
        while await lookup.packed(1, 1.0) != b"h1":  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.02)
    assert store.opened == 2


async def test_a_store_that_is_not_there_yet_is_an_outage(tmp_path: Path) -> None:
    lookup = HistoryLookup(opener(f"lmdb:{tmp_path / 'nothing'}"))
    lookup.start()
    assert await lookup.packed(1, 1.0) == b""
    assert lookup.found["outage"] + lookup.found["timeout"] == 1
    lookup.close()


async def test_what_nobody_foresaw_is_an_outage_and_ends_no_other_look_up(
    make: Callable[..., HistoryLookup], store: Scripted
) -> None:
    lookup = make(retry_s=0.0)
    store.error, store.broken, store.closes = ZeroDivisionError("a fault"), True, False
    assert await lookup.packed(1, 1.0) == b""
    store.broken = False
    assert await lookup.packed(1, 1.0) == b"h1"
    assert (store.opened, lookup.found) == (2, {"outage": 1, "hit": 1})
    store.closes = True


@pytest.mark.parametrize("url", ["lmdb:", "memcached:x", "nothing"])
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is none of lmdb:"):
        opener(url)


def _write(path: str, count: int) -> None:
    store = open_store(f"lmdb:{path}", StoreOptions(capacity=5, bytes=1 << 26))
    for number in range(1, count + 1):
        codes = quantise(np.full((1, 8), 0.5, np.float32), "int4")
        one = History(np.array([number]), np.array([number], np.uint64), np.array([1], np.uint32), codes, 8, "int4")
        store.update(dict.fromkeys(range(20), one), number)
    store.close()


def test_reading_while_another_process_writes_gives_whole_histories_that_only_grow(tmp_path: Path) -> None:
    _write(str(tmp_path), 1)
    reader = LmdbReader(tmp_path)
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(str(tmp_path), 300))
    writer.start()
    last = dict.fromkeys(range(20), 0)
    while writer.is_alive() or min(last.values()) < 300:
        for user in range(20):
            value = reader.get(user)
            assert value is not None
            newest = int(unpack(value).time_ms[-1])
            assert newest >= last[user]
            last[user] = newest
    writer.join()
    assert writer.exitcode == 0
    assert reader.get(99) is None
    reader.close()


async def test_a_store_that_is_lost_and_made_anew_is_an_outage_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(count: int) -> None:
        writer = multiprocessing.get_context("fork").Process(target=_write, args=(str(tmp_path / "store"), count))
        writer.start()
        writer.join(20)
        assert writer.exitcode == 0

    monkeypatch.setattr(store_module, "LOOK_S", 0.0)
    options = LookupOptions(share=1.0, most_s=5.0, retry_s=0.01)
    writes(2)
    lookup = HistoryLookup(lambda: LmdbReader(tmp_path / "store"), options)
    lookup.start()
    assert len(unpack(await lookup.packed(7, 1.0))) == 2
    shutil.rmtree(tmp_path / "store")
    assert await lookup.packed(7, 1.0) == b""
    writes(4)
    await asyncio.sleep(options.retry_s)
    assert len(unpack(await lookup.packed(7, 1.0))) == 4
    assert lookup.found == {"hit": 2, "outage": 1}
    lookup.close()
