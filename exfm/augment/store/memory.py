"""An online store that ends with its process, for tests and trials."""

from collections.abc import Mapping

from exfm.augment.store.store import StoreOptions
from exfm.features.history import History, merge, pack, unpack


class MemoryStore:
    """An `EmbeddingStore` in a dict of packed values."""

    def __init__(self, options: StoreOptions | None = None) -> None:
        self._options = options or StoreOptions()
        self._values: dict[int, bytes] = {}
        self._position = 0

    def update(self, events: Mapping[int, History], position: int) -> None:
        for user, new in events.items():
            old = self.read(user) or History.empty(new.dimension, new.codec)
            since_ms = int(new.time_ms[-1]) - self._options.keep_ms if len(new) else 0
            self._values[user] = pack(merge(old, new, self._options.capacity, not_before_ms=since_ms))
        self._position = position

    def position(self) -> int:
        return self._position

    def read(self, user: int) -> History | None:
        value = self._values.get(user)
        return None if value is None else unpack(value)

    def expire(self, before_ms: int) -> int:
        old = [user for user in self._values if unpack(self._values[user]).time_ms[-1:].max(initial=0) < before_ms]
        for user in old:
            del self._values[user]
        return len(old)

    def close(self) -> None:
        pass
