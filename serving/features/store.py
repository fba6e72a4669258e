"""Where histories are read from: the frontend's side of the online store."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import lmdb

from exfm.features.history import MAP_BYTES, user_key


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
        try:
            self._env = lmdb.open(str(path), map_size=MAP_BYTES, readonly=True, readahead=False, max_readers=512)
        except (lmdb.Error, OSError) as error:
            raise OutageError(f"{path}: {error}") from error

    def get(self, user: int) -> bytes | None:
        try:
            with self._env.begin() as reading:
                value: bytes | None = reading.get(user_key(user))
                return value
        except lmdb.Error as error:
            raise OutageError(str(error)) from error

    def close(self) -> None:
        self._env.close()


BACKENDS: dict[str, Callable[[str], HistoryStore]] = {"lmdb": LmdbReader}


def opener(url: str) -> Callable[[], HistoryStore]:
    """What opens the store behind `lmdb:PATH`, to be called when it is needed.

    Raises:
        ValueError: the URL has no known scheme, or nothing behind it.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in BACKENDS or not rest:
        raise ValueError(f"{url!r} is none of {', '.join(f'{name}:...' for name in sorted(BACKENDS))}")
    return lambda: BACKENDS[scheme](rest)
