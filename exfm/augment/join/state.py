"""What the join knows, in one SQLite file with its output: whatever moves, moves in one transaction."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from exfm.augment.join.reading import Place, Reading
from exfm.events import tables
from exfm.events.log import LogUnavailableError
from exfm.events.outcome import Outcome

_TABLES = """
CREATE TABLE IF NOT EXISTS inputs (topic TEXT PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches (batch INTEGER PRIMARY KEY, remaining INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pending (
    key BLOB PRIMARY KEY, ready_ms INTEGER NOT NULL, time_ms INTEGER NOT NULL, batch INTEGER NOT NULL,
    place INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_ready ON pending (ready_ms, key);
CREATE TABLE IF NOT EXISTS joined (key BLOB PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_until ON joined (until_ms);
CREATE TABLE IF NOT EXISTS outcomes (
    key BLOB NOT NULL, task TEXT NOT NULL, value REAL NOT NULL, time_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    PRIMARY KEY (key, task, value, time_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outcomes_by_until ON outcomes (until_ms);
CREATE TABLE IF NOT EXISTS told (
    key BLOB NOT NULL, task TEXT NOT NULL, value REAL NOT NULL, time_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    PRIMARY KEY (key, task, value, time_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_by_until ON told (until_ms);
"""


class Waiting(NamedTuple):
    """An impression that waits for its window: where its row lies, and when the window ends."""

    key: bytes
    ready_ms: int
    time_ms: int
    batch: int
    place: int


class JoinState:
    """The tables; every method but `close` belongs inside `transaction`."""

    def __init__(self, path: Path) -> None:
        with _translated(path):
            self.connection = tables.connect(path)
            tables.create(self.connection)
            self.connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        self._path = path

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; `LogUnavailableError` if the disk refuses."""
        with _translated(self._path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def position(self, topic: str) -> int:
        """Up to where an input was read; 0 at first. The watermark lives here too, as a topic of its own."""
        row = self.connection.execute("SELECT position FROM inputs WHERE topic = ?", (topic,)).fetchone()
        return int(row[0]) if row else 0

    def move(self, topic: str, position: int) -> None:
        """Note up to where an input was read."""
        self.connection.execute("INSERT OR REPLACE INTO inputs VALUES (?, ?)", (topic, position))

    def place(self, topic: str) -> Place:
        """Up to where an input was read."""
        return Place(self.position(topic), self.position(_appended(topic)))

    def reach(self, topic: str, reading: Reading) -> None:
        """Note that all of a reading was read."""
        if reading.records or reading.rewound:
            self.move(topic, reading.end)
            self.move(_appended(topic), reading.records[-1].appended_ms if reading.records else 0)

    def count(self, counts: "Counter[str]") -> None:
        """Add to the running counts."""
        sql = "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        self.connection.executemany(sql, [item for item in counts.items() if item[1]])

    def counts(self) -> "Counter[str]":
        """The running counts."""
        return Counter(dict(self.connection.execute("SELECT name, value FROM counts")))

    def size(self, table: str) -> int:
        """How many rows `pending` or `outcomes` has."""
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def fresh_batch(self) -> int:
        """A number that no batch has whose rows wait; offsets won't do, for a log may give them out again."""
        return int(self.connection.execute("SELECT coalesce(max(batch), 0) + 1 FROM batches").fetchone()[0])

    def wait(self, rows: Sequence[Waiting], payload: bytes) -> int:
        """Let impressions of one batch wait; those that wait or were joined already are left out.

        Returns:
            How many are new.
        """
        sql = (
            "INSERT OR IGNORE INTO pending SELECT ?1, ?2, ?3, ?4, ?5 "
            "WHERE NOT EXISTS (SELECT 1 FROM joined WHERE key = ?1)"
        )
        fresh = self.connection.executemany(sql, rows).rowcount if rows else 0
        if fresh > 0:
            self.connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (rows[0].batch, fresh, payload))
        return max(fresh, 0)

    def joined_among(self, keys: Iterable[bytes]) -> set[bytes]:
        """Which of these impressions were joined already."""
        sql = "SELECT key FROM joined WHERE key = ?"
        return {key for key in set(keys) if self.connection.execute(sql, (key,)).fetchone()}

    def add_outcomes(self, rows: Sequence[Outcome], until_ms: Sequence[int]) -> int:
        """Keep outcomes until their impression's window ends; how many are new."""
        sql = "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?)"
        values = [(*row, until) for row, until in zip(rows, until_ms, strict=True)]
        return max(self.connection.executemany(sql, values).rowcount, 0) if values else 0

    def tell(self, row: Outcome) -> bool:
        """Remember an outcome of a joined impression as long as that; False if it is known already."""
        sql = "INSERT OR IGNORE INTO told SELECT ?1, ?2, ?3, ?4, until_ms FROM joined WHERE key = ?1"
        return self.connection.execute(sql, row).rowcount > 0

    def ripe(self, watermark_ms: int, limit: int) -> list[Waiting]:
        """Impressions whose window is over, the earliest first."""
        sql = (
            "SELECT key, ready_ms, time_ms, batch, place FROM pending WHERE ready_ms <= ? "
            "ORDER BY ready_ms, key LIMIT ?"
        )
        return [Waiting(*row) for row in self.connection.execute(sql, (watermark_ms, limit))]

    def outcomes_of(self, rows: Sequence[Waiting]) -> dict[bytes, list[Outcome]]:
        """What came for these impressions."""
        sql = "SELECT key, task, value, time_ms FROM outcomes WHERE key = ?"
        found = {row.key: [Outcome(*each) for each in self.connection.execute(sql, (row.key,))] for row in rows}
        return {key: outcomes for key, outcomes in found.items() if outcomes}

    def payload(self, batch: int) -> bytes:
        """A batch that still has rows waiting."""
        row = self.connection.execute("SELECT payload FROM batches WHERE batch = ?", (batch,)).fetchone()
        return bytes(row[0])

    def settle(self, rows: Sequence[Waiting], horizon_ms: int) -> None:
        """These impressions are joined: nothing waits for them any more; remember their keys and outcomes."""
        keys = [(row.key,) for row in rows]
        told = [(row.time_ms + horizon_ms, row.key) for row in rows]
        sql = "INSERT OR IGNORE INTO told SELECT key, task, value, time_ms, ? FROM outcomes WHERE key = ?"
        self.connection.executemany(sql, told)
        self.connection.executemany("DELETE FROM pending WHERE key = ?", keys)
        self.connection.executemany("DELETE FROM outcomes WHERE key = ?", keys)
        remembered = [(row.key, row.time_ms + horizon_ms) for row in rows]
        self.connection.executemany("INSERT OR IGNORE INTO joined VALUES (?, ?)", remembered)
        spent = Counter(row.batch for row in rows)
        used = [(count, batch) for batch, count in spent.items()]
        self.connection.executemany("UPDATE batches SET remaining = remaining - ? WHERE batch = ?", used)
        self.connection.executemany("DELETE FROM batches WHERE batch = ? AND remaining <= 0", [(b,) for b in spent])

    def forget(self, watermark_ms: int) -> int:
        """Drop keys that nothing can come for any more, and outcomes that no impression came for; how many of these."""
        for table in ("joined", "told"):
            self.connection.execute(f"DELETE FROM {table} WHERE until_ms < ?", (watermark_ms,))
        sql = (
            "DELETE FROM outcomes WHERE until_ms < ? "
            "AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.key = outcomes.key)"
        )
        return self.connection.execute(sql, (watermark_ms,)).rowcount

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


def _appended(topic: str) -> str:
    """The row of `inputs` with the time of the last record that was read."""
    return f"{topic} appended_ms"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LogUnavailableError(f"{path}: {error}") from error
