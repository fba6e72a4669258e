"""An event log that ends with its process, for tests and trials; it keeps the same promises but the durable one."""

import time
from collections import defaultdict

from exfm.events.log import BEGIN, Lag, Record


class MemoryLog:
    """An `EventLog` in lists."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = defaultdict(list)
        self._batches: set[tuple[str, bytes]] = set()
        self._commits: dict[str, dict[str, int]] = defaultdict(dict)
        self._next = BEGIN + 1

    def append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
        if (topic, batch_id) in self._batches:
            return False
        self._batches.add((topic, batch_id))
        self._records[topic].append(Record(self._next, count, payload, time.time_ns() // 1_000_000))
        self._next += 1
        return True

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        return [record for record in self._records[topic] if record.offset > after][:limit]

    def end(self, topic: str) -> int:
        return max((record.offset for record in self._records[topic]), default=BEGIN)

    def commit(self, consumer: str, topic: str, offset: int) -> None:
        self._commits[topic][consumer] = max(offset, self.committed(consumer, topic))

    def committed(self, consumer: str, topic: str) -> int:
        return self._commits[topic].get(consumer, BEGIN)

    def lag(self, consumer: str, topic: str) -> Lag:
        return self.ahead(topic, self.committed(consumer, topic))

    def ahead(self, topic: str, after: int) -> Lag:
        ahead = self.read(topic, after, len(self._records[topic]))
        return Lag(sum(record.count for record in ahead), min((record.appended_ms for record in ahead), default=0))

    def trim(self, topic: str, before_ms: int) -> int:
        done = min(self._commits[topic].values(), default=BEGIN)
        gone = [each for each in self._records[topic] if each.offset <= done and each.appended_ms < before_ms]
        self._records[topic] = [record for record in self._records[topic] if record not in gone]
        return sum(record.count for record in gone)

    def close(self) -> None:
        pass
