"""The embedded online store: LMDB, which readers of any process map into memory; one writer."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lmdb

from exfm.augment.store.store import StoreOptions, StoreUnavailableError
from exfm.features.history import History, PackedError, append, unpack, user_key

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
        self._path, self._options = path, options or StoreOptions()
        with self._translated():
            Path(path).mkdir(parents=True, exist_ok=True)
            self._swept = b""
            self._env = lmdb.open(str(path), map_size=self._options.bytes, readahead=False, max_readers=512)

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
