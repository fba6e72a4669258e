"""The embedded event log: one SQLite file in WAL mode, one record batch per row."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exfm.events import tables
from exfm.events.log import Lag, LogUnavailableError, Record


class SqliteLog:
    """An `EventLog` in a file; writers of several processes take turns, readers never wait for them."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        with self._translated():
            self._connection = tables.connect(path)
            tables.create(self._connection)

    def append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
        with self._translated():
            return tables.insert(self._connection, topic, payload, count, batch_id)

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        with self._translated():
            return tables.read(self._connection, topic, after, limit)

    def end(self, topic: str) -> int:
        with self._translated():
            return tables.end(self._connection, topic)

    def commit(self, consumer: str, topic: str, offset: int) -> None:
        with self._translated():
            tables.commit(self._connection, consumer, topic, offset)

    def committed(self, consumer: str, topic: str) -> int:
        with self._translated():
            return tables.committed(self._connection, consumer, topic)

    def lag(self, consumer: str, topic: str) -> Lag:
        with self._translated():
            return tables.lag(self._connection, consumer, topic)

    def ahead(self, topic: str, after: int) -> Lag:
        with self._translated():
            return tables.ahead(self._connection, topic, after)

    def trim(self, topic: str, before_ms: int) -> int:
        with self._translated():
            return tables.trim(self._connection, topic, before_ms)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailableError(f"{self.path}: {error}") from error
