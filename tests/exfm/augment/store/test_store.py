"""One contract for every online store."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from exfm.augment.store import lmdb_store, valkey_store
from exfm.augment.store.backends import open_store
from exfm.augment.store.memory import MemoryStore
from exfm.augment.store.store import EmbeddingStore, StoreOptions, StoreUnavailableError
from exfm.events.urls import UrlError
from exfm.features.embeddings import quantise
from exfm.features.history import History, pack
from serving.features.store import HistoryStore, OutageError
from serving.features.store import opener as history_opener

OPTIONS = StoreOptions(capacity=3, keep_ms=1000, bytes=1 << 24)
Opener = Callable[[], EmbeddingStore]


@pytest.fixture(params=["memory", "lmdb", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "lmdb":
        return lambda: open_store(f"lmdb:{tmp_path / 'store'}", OPTIONS)
    if request.param == "redis":
        url = request.getfixturevalue("valkey")
        return lambda: open_store(url, OPTIONS)
    kept = MemoryStore(OPTIONS)
    return lambda: kept


@pytest.fixture(params=["lmdb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that other processes can open, on each engine."""
    made: str = f"lmdb:{tmp_path / 'store'}" if request.param == "lmdb" else request.getfixturevalue("valkey")
    return made


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


def connected(url: str) -> HistoryStore:
    """A reader; this machine may be too busy for the first tries."""
    for _ in range(50):
        try:
            return history_opener(url)()
        except OutageError as error:
            last = error
    raise last


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


def test_a_folder_that_is_lost_is_opened_anew_by_whoever_asks_for_the_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    store = open_store(f"lmdb:{folder}", OPTIONS)
    store.update({1: events(10)}, 7)
    assert store.position() == 7
    assert not caplog.text
    shutil.rmtree(folder)
    folder.write_text("in its place")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="store"):
            store.position()
    with pytest.raises(StoreUnavailableError, match="store"):
        store.update({1: events(20)}, 8)
    folder.unlink()
    assert store.position() == 0
    assert "removed or replaced" in caplog.text
    assert times_of(store, 1) == []
    store.update({1: events(20)}, 8)
    store.close()
    again = open_store(f"lmdb:{folder}", OPTIONS)
    assert (again.position(), times_of(again, 1)) == (8, [20])
    again.close()


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


def test_a_reader_finds_what_was_written_byte_by_byte(url: str) -> None:
    store = open_store(url, OPTIONS)
    store.update({1: events(10, 20), -(1 << 63): events(7), (1 << 63) - 1: events(8)}, 1)
    written = {user: store.read(user) for user in (1, -(1 << 63), (1 << 63) - 1)}
    store.close()
    reader = connected(url)
    for user, found in written.items():
        assert found is not None
        assert reader.get(user) == pack(found)
    assert reader.get(2) is None
    reader.close()


@pytest.mark.parametrize("url", ["memcached:x", "redis:", "lmdb:"])
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(UrlError, match="embedding store"):
        open_store(url)


def test_a_full_store_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = open_store(f"lmdb:{tmp_path}", StoreOptions(bytes=1 << 16))
    store.update({1: events(10)}, 1)
    with pytest.raises(StoreUnavailableError, match="FULL"):
        store.update({user: events(*range(50)) for user in range(1000)}, 2)
    assert times_of(store, 1) == [10]
    assert store.position() == 1
    store.close()


def _write(url: str, said: "multiprocessing.queues.Queue[int]") -> None:
    store = open_store(url, OPTIONS)
    for number in range(1, 1_000_000):
        store.update({user: events(number) for user in range(5)}, number)
        said.put(number)


def test_a_writer_that_is_killed_leaves_whole_updates(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    writer = context.Process(target=_write, args=(url, said))
    writer.start()
    last = 0
    while last < 20:
        last = said.get(timeout=30)
    reader = connected(url)
    assert reader.get(3) is not None
    writer.kill()
    writer.join()
    reader.close()
    store = open_store(url, OPTIONS)
    position = store.position()
    assert position >= last
    for user in range(5):
        assert times_of(store, user)[-1] == position
    store.update({3: events(position + 1)}, position + 1)
    assert times_of(store, 3)[-1] == position + 1
    store.close()


@pytest.mark.parametrize("url", ["lmdb", "redis"], indirect=True)
def test_a_call_of_expire_looks_at_a_bounded_number_of_users(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = lmdb_store if url.startswith("lmdb") else valkey_store
    monkeypatch.setattr(module, "_SWEEP", 10)
    monkeypatch.setattr(module, "_SWEEPS", 2)
    store = open_store(url, OPTIONS)
    store.update({user: events(10 if user % 2 else 90) for user in range(100)}, 1)
    gone = [store.expire(50) for _ in range(12)]
    assert sum(gone) == 50
    assert max(gone) < 25
    assert store.position() == 1
    assert all((times_of(store, user) == []) == bool(user % 2) for user in range(100))
    assert sum(store.expire(95) for _ in range(12)) == 50
    store.close()
