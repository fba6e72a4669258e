"""One contract for every online store."""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from exfm.augment.store.backends import open_store
from exfm.augment.store.memory import MemoryStore
from exfm.augment.store.store import EmbeddingStore, StoreOptions, StoreUnavailableError
from exfm.events.urls import UrlError
from exfm.features.embeddings import quantise
from exfm.features.history import History

OPTIONS = StoreOptions(capacity=3, keep_ms=1000, bytes=1 << 24)
Opener = Callable[[], EmbeddingStore]


@pytest.fixture(params=["memory", "lmdb"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "lmdb":
        return lambda: open_store(f"lmdb:{tmp_path / 'store'}", OPTIONS)
    kept = MemoryStore(OPTIONS)
    return lambda: kept


@pytest.fixture
def store(opener: Opener) -> Iterator[EmbeddingStore]:
    made = opener()
    yield made
    made.close()


def events(*times: int) -> History:
    codes = quantise(np.full((len(times), 4), 0.5, np.float32), "int4")
    number = np.array(times, np.uint64)
    return History(np.array(times, np.int64), number, np.full(len(times), 1, np.uint32), codes, 4, "int4")


def times_of(store: EmbeddingStore, user: int) -> list[int]:
    found = store.read(user)
    return [] if found is None else [int(each) for each in found.time_ms]


def test_it_keeps_each_users_last_events(store: EmbeddingStore) -> None:
    store.update({1: events(10, 20), -5: events(7)}, 1)
    store.update({1: events(15, 30)}, 2)
    assert times_of(store, 1) == [15, 20, 30]
    assert times_of(store, -5) == [7]
    assert store.read(2) is None
    assert store.position() == 2


def test_an_update_that_is_done_again_changes_nothing(store: EmbeddingStore) -> None:
    for _ in range(3):
        store.update({1: events(10, 20)}, 1)
    assert times_of(store, 1) == [10, 20]


def test_old_events_go_with_the_next_update(store: EmbeddingStore) -> None:
    store.update({1: events(10, 900)}, 1)
    store.update({1: events(1100)}, 2)
    assert times_of(store, 1) == [900, 1100]


def test_users_expire(store: EmbeddingStore) -> None:
    store.update({user: events(10 * user) for user in range(1, 51)}, 1)
    assert store.expire(251) == 25
    assert times_of(store, 25) == []
    assert times_of(store, 26) == [260]
    assert store.expire(0) == 0
    assert store.position() == 1


def test_it_is_all_there_after_opening_it_again(opener: Opener) -> None:
    first = opener()
    first.update({1: events(10)}, 4)
    first.close()
    second = opener()
    assert times_of(second, 1) == [10]
    assert second.position() == 4
    second.close()


def test_an_unknown_url_is_refused() -> None:
    with pytest.raises(UrlError, match="embedding store"):
        open_store("redis:somewhere")


def test_a_full_store_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = open_store(f"lmdb:{tmp_path}", StoreOptions(bytes=1 << 16))
    store.update({1: events(10)}, 1)
    with pytest.raises(StoreUnavailableError, match="FULL"):
        store.update({user: events(*range(50)) for user in range(1000)}, 2)
    assert times_of(store, 1) == [10]
    assert store.position() == 1
    store.close()


def _write(path: str, said: "multiprocessing.queues.Queue[int]") -> None:
    store = open_store(f"lmdb:{path}", OPTIONS)
    for number in range(1, 1_000_000):
        store.update({user: events(number) for user in range(5)}, number)
        said.put(number)


def test_a_writer_that_is_killed_leaves_whole_updates(tmp_path: Path) -> None:
    from serving.features.store import LmdbReader

    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    writer = context.Process(target=_write, args=(str(tmp_path), said))
    writer.start()
    last = 0
    while last < 20:
        last = said.get(timeout=30)
    reader = LmdbReader(tmp_path)
    assert reader.get(3) is not None
    writer.kill()
    writer.join()
    reader.close()
    store = open_store(f"lmdb:{tmp_path}", OPTIONS)
    position = store.position()
    assert position >= last
    for user in range(5):
        assert times_of(store, user)[-1] == position
    store.update({3: events(position + 1)}, position + 1)
    assert times_of(store, 3)[-1] == position + 1
    store.close()
