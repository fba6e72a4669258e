"""An embedded store is killed amid an update, or not at all."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.asynchrony import embedded_store
from bench.asynchrony.embedded_store import EmbeddedStore
from bench.overload.plant import BenchError
from exfm.augment.places import Places
from exfm.data.commits import COMMITS, Commit

Made = tuple[EmbeddedStore, Path, list[int]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A store behind a stream of one commit, the stream's log, and how long that was when the store's writer died."""
    places, sizes = Places.under(tmp_path), list[int]()
    places.stream.mkdir()
    commits = places.stream / COMMITS
    commits.write_bytes(Commit(1, 0, 0, 1).line())
    return EmbeddedStore(places, lambda: sizes.append(commits.stat().st_size), lambda: None, 0), commits, sizes


def _appending(commits: Path, line: bytes) -> Callable[[], None]:
    def append() -> None:
        with commits.open("ab") as log:
            log.write(line)

    return append


def test_a_store_dies_just_after_a_commit(made: Made) -> None:
    store, commits, sizes = made
    before, line = commits.stat().st_size, Commit(2, 0, 0, 2).line()
    writer = threading.Timer(0.1, _appending(commits, line))
    writer.start()
    store.kill()
    writer.join()
    assert (sizes, store.behind, store.lost) == ([before + len(line)], 1, 0)


def test_without_a_commit_there_is_no_kill(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_store, "WAIT_S", 0.05)
    store, _, sizes = made
    with pytest.raises(BenchError, match=r"nothing was committed for 0\.05 s"):
        store.kill()
    assert not sizes
