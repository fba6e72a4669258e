"""The distributed online store: one packed value per user in Valkey or Redis; readers on any machine, one writer.

All lives in the server's memory. A server that comes back without some of its updates says so by its position, and gets
them again from the stream. It must not evict (`maxmemory-policy noeviction`): a full server refuses an update whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from exfm.augment.store.store import StoreOptions, StoreUnavailableError
from exfm.events.valkey import POSITION, USERS, ValkeyPlace, key_of
from exfm.features.history import History, PackedError, merge, pack, unpack

_CONNECT_S, _ANSWER_S = 2.0, 10.0
_SWEEP = 512
"""Users looked at per command, so that none holds up the readers for long, and"""
_SWEEPS = 128
"""commands per call of `expire`: the next one goes on from there."""


class ValkeyStore:
    """An `EmbeddingStore` behind `redis:`; see `exfm.events.valkey` for the rest of the URL."""

    def __init__(self, rest: str, options: StoreOptions | None = None) -> None:
        self._place, self._options = ValkeyPlace.parse(rest), options or StoreOptions()
        self._swept = 0
        self._client: Any = self._place.client(connect_s=_CONNECT_S, answer_s=_ANSWER_S)
        try:
            self.position()
        except StoreUnavailableError:
            self.close()
            raise

    def update(self, events: Mapping[int, History], position: int) -> None:
        with self._translated():
            values = dict(self._merged(events))
            with self._client.pipeline(transaction=True) as together:
                if values:
                    together.mset(values)
                together.set(POSITION, position)
                together.execute()

    def position(self) -> int:
        with self._translated():
            return int(self._client.get(POSITION) or 0)

    def read(self, user: int) -> History | None:
        with self._translated():
            return _unpack(self._client.get(key_of(user)))

    def expire(self, before_ms: int) -> int:
        gone = 0
        with self._translated():
            for _ in range(_SWEEPS):
                self._swept, keys = self._client.scan(self._swept, match=USERS + b"*", count=_SWEEP)
                if old := self._older(keys, before_ms):
                    gone += int(self._client.unlink(*old))
                if not self._swept:
                    break
        return gone

    def close(self) -> None:
        self._client.close()

    def _merged(self, events: Mapping[int, History]) -> Iterator[tuple[bytes, bytes]]:
        users, options = list(events), self._options
        for start in range(0, len(users), _SWEEP):
            part = users[start : start + _SWEEP]
            for user, value in zip(part, self._client.mget([key_of(user) for user in part]), strict=True):
                new = events[user]
                old = _unpack(value) or History.empty(new.dimension, new.codec)
                since_ms = int(new.time_ms[-1]) - options.keep_ms if len(new) else 0
                yield key_of(user), pack(merge(old, new, options.capacity, not_before_ms=since_ms))

    def _older(self, keys: Sequence[bytes], before_ms: int) -> list[bytes]:
        """Those whose last event is older than that, or whose value can't be read."""
        values = self._client.mget(keys) if keys else []
        found = [(key, _unpack(value)) for key, value in zip(keys, values, strict=True) if value is not None]
        return [key for key, history in found if not history or not len(history) or history.time_ms[-1] < before_ms]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(f"{self._place}: {error}") from error


def _unpack(value: bytes | None) -> History | None:
    try:
        return unpack(value) if value is not None else None
    except PackedError:
        return None
