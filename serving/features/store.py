"""Where histories are read from: the frontend's side of the online store."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import lmdb

from exfm.events.extras import lazily
from exfm.events.urls import open_url
from exfm.features.history import MAP_BYTES, user_key

LOOK_S = 1.0
"""How often a reader looks whether its store is still the one that lies there."""


class OutageError(Exception):
    """The store can't be read now."""


class HistoryStore(Protocol):
    """Called on one thread of its own, and may block there."""

    def get(self, user: int) -> bytes | None:
        """A user's packed history; None if there is none. `OutageError` if the store can't be read."""

    def close(self) -> None:
        """Let go of it."""


class LmdbReader:
    """The embedded store, mapped into memory; a look-up takes some microseconds, unless a page must come from disk."""

    def __init__(self, path: str | Path) -> None:
        """`OutageError` if there is no store yet. Once per process, and never before a fork."""
        self._file, self._looked_s = Path(path) / "data.mdb", time.monotonic()
        self._identity = _identity(self._file)
        try:
            self._env = lmdb.open(str(path), map_size=MAP_BYTES, readonly=True, readahead=False, max_readers=512)
        except (lmdb.Error, OSError) as error:
            raise OutageError(f"{path}: {error}") from error

    def get(self, user: int) -> bytes | None:
        self._look()
        try:
            with self._env.begin() as reading:
                value: bytes | None = reading.get(user_key(user))
                return value
        except lmdb.Error as error:
            raise OutageError(str(error)) from error

    def close(self) -> None:
        self._env.close()

    def _look(self) -> None:
        """Now and then: a store that was lost lives on for who has it open, and its successor goes unseen."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            if _identity(self._file) != self._identity:
                raise OutageError(f"{self._file}: was removed, or another one has taken its place")


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from any that takes its place while it is open; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lmdb(rest: str) -> Callable[[], HistoryStore]:
    return lambda: LmdbReader(rest)


BACKENDS: dict[str, Callable[[str], Callable[[], HistoryStore]]] = {
    "lmdb": _lmdb,
    "redis": lazily("redis", "serving.features.valkey_reader", "ValkeyOpener"),
}


def opener(url: str) -> Callable[[], HistoryStore]:
    """What opens the store behind `lmdb:PATH` or `redis://HOST:PORT/DB`, to be called when it is needed.

    Raises:
        UrlError: a `ValueError`; the URL has no known scheme, its client library is not installed, or it is wrong.
    """
    return open_url(url, "history store", BACKENDS)
