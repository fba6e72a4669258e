"""The embedded online store: LMDB, which readers of any process map into memory; one writer."""

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lmdb

from exfm.augment.store.store import StoreOptions, StoreUnavailableError
from exfm.features.history import History, PackedError, append, unpack, user_key

log = logging.getLogger(__name__)
_POSITION = b"position"[:7]
"""Seven bytes, so that it is no user's key."""
_NUMBER = struct.Struct("<q")
_SWEEP = 1024
"""Users looked at per transaction, so that none lasts long, and"""
_SWEEPS = 64
"""transactions per call: the next one goes on from there."""


class LmdbStore:
    """An `EmbeddingStore` in a folder. Open it after a fork, once per process."""

    def __init__(self, path: str | Path, options: StoreOptions | None = None) -> None:
        self._path, self._options = Path(path), options or StoreOptions()
        self._swept = b""
        self._open()

    def update(self, events: Mapping[int, History], position: int) -> None:
        options = self._options
        with self._translated():
            self._env.reader_check()  # slots of readers that were killed would keep old pages alive
            with self._env.begin(write=True) as writing:
                for user, new in events.items():
                    key = user_key(user)
                    since_ms = int(new.time_ms[-1]) - options.keep_ms if len(new) else 0
                    writing.put(key, _append(writing.get(key), new, options.capacity, since_ms))
                writing.put(_POSITION, _NUMBER.pack(position))

    def position(self) -> int:
        """What the last update noted; that of what lies in the folder now, 0 where it was removed."""
        self._look()
        with self._translated(), self._env.begin() as reading:
            value = reading.get(_POSITION)
        return int(_NUMBER.unpack(value)[0]) if value else 0

    def read(self, user: int) -> History | None:
        with self._translated(), self._env.begin() as reading:
            return _unpack(reading.get(user_key(user)))

    def expire(self, before_ms: int) -> int:
        gone = 0
        for _ in range(_SWEEPS):
            old, after = self._older(before_ms, self._swept)
            if old:
                with self._translated(), self._env.begin(write=True) as writing:
                    gone += sum(writing.delete(key) for key in old)
            self._swept = after
            if not after:
                break
        return gone

    def close(self) -> None:
        self._env.close()

    def _open(self) -> None:
        with self._translated():
            self._path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(self._path), map_size=self._options.bytes, readahead=False, max_readers=512)
        self._identity = self._lies_there()

    def _look(self) -> None:
        """A store that was lost lives on for who has it open: let go of it, and open what lies in its place."""
        there = self._lies_there()
        if there is not None and there == self._identity:
            return
        self._env.close()
        self._identity = None  # its inode may be the next file's now
        self._open()
        log.warning("%s: the online store was removed or replaced; it is opened anew", self._path)

    def _lies_there(self) -> tuple[int, int] | None:
        """Tells the file from any that takes its place while it is open; None if there is none."""
        try:
            found = (self._path / "data.mdb").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _older(self, before_ms: int, start: bytes) -> tuple[list[bytes], bytes]:
        """Of the users from a key on those whose last event is older than that, or whose value can't be read.

        Also the key to go on from; empty at the end.
        """
        found: list[bytes] = []
        with self._translated(), self._env.begin() as reading, reading.cursor() as cursor:
            more = cursor.set_range(start) if start else cursor.first()
            for _ in range(_SWEEP):
                if not more:
                    return found, b""
                key, history = cursor.key(), _unpack(cursor.value())
                if key != _POSITION and (history is None or not len(history) or history.time_ms[-1] < before_ms):
                    found.append(bytes(key))
                more = cursor.next()
            return found, bytes(cursor.key()) if more else b""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailableError(f"{self._path}: {error}") from error


def _append(value: bytes | None, new: History, capacity: int, since_ms: int) -> bytes:
    try:
        return append(value, new, capacity, not_before_ms=since_ms)
    except PackedError:  # what can't be read is as good as nothing
        return append(None, new, capacity, not_before_ms=since_ms)


def _unpack(value: bytes | None) -> History | None:
    try:
        return unpack(value) if value is not None else None
    except PackedError:
        return None
