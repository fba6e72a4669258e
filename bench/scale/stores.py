"""Each online store beside the embedded one: users written in turns, histories read call by call in turns."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.scale.servers import valkey_server
from exfm.augment.store.backends import open_store
from exfm.augment.store.store import EmbeddingStore, StoreOptions
from exfm.features.embeddings import quantise
from exfm.features.history import History
from serving.features.store import HistoryStore, opener

USERS, EVENTS, DIMENSION = 20_000, 20, 64
AT_ONCE = 500
EMBEDDED = "lmdb"
_OPTIONS = StoreOptions(EVENTS)


def measure(folder: Path, *, rounds: int, looks: int) -> dict[str, Any]:
    """Users written per second in updates of 500 with one new event each, and microseconds per history read.

    Args:
        folder: for files and the server.
        rounds: updates per store.
        looks: histories read per store; users are drawn at random.
    """
    with valkey_server(folder / "valkey") as server:
        urls = {EMBEDDED: f"lmdb:{folder / 'lmdb'}", "valkey": f"redis://127.0.0.1:{server.port}/0"}
        stores = {name: open_store(url, _OPTIONS) for name, url in urls.items()}
        written = _written(stores, rounds)
        for store in stores.values():
            store.close()
        readers = {name: opener(url)() for name, url in urls.items()}
        read = _read(readers, looks)
        for reader in readers.values():
            reader.close()
    return {name: {**written[name], **read[name]} for name in urls}


def events(number: int, count: int) -> History:
    """Some events, the first at `number` milliseconds."""
    codes = quantise(np.random.default_rng(number).uniform(-1, 1, (count, DIMENSION)).astype(np.float32), "int8")
    times = np.arange(number, number + count)
    return History(times, times.astype(np.uint64), np.ones(count, np.uint32), codes, DIMENSION, "int8")


def fill(store: EmbeddingStore, users: int = USERS) -> None:
    """Give each user a full history."""
    for start in range(0, users, 5000):
        store.update(dict.fromkeys(range(start, min(start + 5000, users)), events(0, EVENTS)), 1)


def _written(stores: dict[str, EmbeddingStore], rounds: int) -> dict[str, dict[str, float]]:
    for store in stores.values():
        fill(store)
    draw, spent = np.random.default_rng(0), list[dict[str, float]]()
    for number in range(rounds):
        users = draw.choice(USERS, AT_ONCE, replace=False).tolist()
        update = dict.fromkeys(users, events(EVENTS + number, 1))
        spent.append({name: _spent_s(store.update, update, number) for name, store in stores.items()})
    return {
        name: {
            "write_users_per_s": AT_ONCE / median(each[name] for each in spent),
            "write_ratio": median(each[EMBEDDED] / each[name] for each in spent),
        }
        for name in stores
    }


def _read(readers: dict[str, HistoryStore], looks: int) -> dict[str, dict[str, float]]:
    draw = np.random.default_rng(1)
    spent_s: dict[str, list[float]] = {name: [] for name in readers}
    for user in draw.integers(0, USERS, looks).tolist():
        for name, reader in readers.items():
            spent_s[name].append(_spent_s(reader.get, user))
    p50, p99 = ({name: float(np.quantile(each, q)) * 1e6 for name, each in spent_s.items()} for q in (0.5, 0.99))
    return {
        name: {"read_p50_us": p50[name], "read_p99_us": p99[name], "read_p50_ratio": p50[name] / p50[EMBEDDED]}
        for name in readers
    }


def _spent_s(work: Callable[..., object], *arguments: object) -> float:
    began_s = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began_s
