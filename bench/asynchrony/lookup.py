"""What a history costs a request: the store alone, while it is written, through the look-up, and inside `Rank`."""

import asyncio
import itertools
import multiprocessing
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.asynchrony.rank_lookup import rank_lookups
from bench.asynchrony.setting import first_vertical
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.augment.store.store import StoreOptions
from exfm.features.embeddings import quantise
from exfm.features.history import History, inputs_at, unpack
from exfm.features.schema import HistorySpec
from serving.features.lookup import HistoryLookup
from serving.features.store import LmdbReader

USERS, EVENTS, DIMENSION = 50_000, 50, 32
WRITTEN_AT_ONCE, WRITES_PER_S = 500, 20
"""500 users per transaction, 10,000 a second."""


def measure(folder: Path, asked: Namespace) -> dict[str, Any]:
    """p50 and p99 in microseconds and the share that went without, by place."""
    folder.mkdir(parents=True, exist_ok=True)
    _fill(folder)
    draw = np.random.default_rng(0)
    users = draw.integers(0, USERS, asked.looks).tolist()
    made = {"store": _alone(folder, users)}
    with _writing(folder):
        made["store_while_written"] = _alone(folder, users)
        made["frontend_while_written"] = asyncio.run(_in_frontend(folder, users))
        spec = HistorySpec(EVENTS, DIMENSION)
        made["rank_while_written"] = rank_lookups(first_vertical(asked)[1], folder, users[: asked.looks // 10], spec)
    return {"lookup": made}


def _events(number: int, count: int) -> History:
    codes = quantise(np.random.default_rng(number).uniform(-1, 1, (count, DIMENSION)).astype(np.float32), "int4")
    times = np.arange(number, number + count)
    return History(times, times.astype(np.uint64), np.ones(count, np.uint32), codes, DIMENSION, "int4")


def _fill(folder: Path) -> None:
    store = LmdbStore(folder, StoreOptions(EVENTS))
    for start in range(0, USERS, 5000):
        store.update(dict.fromkeys(range(start, start + 5000), _events(0, EVENTS)), 1)
    store.close()


def _alone(folder: Path, users: list[int]) -> dict[str, float]:
    reader, spent_s, missed = LmdbReader(folder), [], 0
    for user in users:
        began_s = time.perf_counter()
        value = reader.get(user)
        if value is None:
            missed += 1
        else:
            inputs_at(unpack(value), 1 << 40, delay_ms=0, length=EVENTS)
        spent_s.append(time.perf_counter() - began_s)
    reader.close()
    return _figures(spent_s, missed)


async def _in_frontend(folder: Path, users: list[int]) -> dict[str, float]:
    lookup, spent_s, missed = HistoryLookup(lambda: LmdbReader(folder)), [], 0
    lookup.start()
    for user in users:
        began_s = time.perf_counter()
        value = await lookup.packed(user, 0.025)
        if value:
            inputs_at(unpack(value), 1 << 40, delay_ms=0, length=EVENTS)
        else:
            missed += 1
        spent_s.append(time.perf_counter() - began_s)
    lookup.close()
    return _figures(spent_s, missed)


def _figures(spent_s: list[float], missed: int) -> dict[str, float]:
    p50, p99 = np.quantile(spent_s, [0.5, 0.99]) * 1e6
    return {"p50_us": float(p50), "p99_us": float(p99), "missed_share": missed / len(spent_s)}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(str(folder),), daemon=True)
    writer.start()
    try:
        yield
    finally:
        writer.kill()
        writer.join()


def _write(folder: str) -> None:
    store, draw = LmdbStore(folder, StoreOptions(EVENTS)), np.random.default_rng(1)
    for number in itertools.count(1):
        began_s = time.monotonic()
        fresh = _events(EVENTS + number, 1)
        store.update(dict.fromkeys(draw.integers(0, USERS, WRITTEN_AT_ONCE).tolist(), fresh), number)
        time.sleep(max(0.0, 1 / WRITES_PER_S - (time.monotonic() - began_s)))
