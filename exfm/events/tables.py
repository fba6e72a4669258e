"""The event log's tables in a SQLite file, for whoever has them in a transaction of its own."""

import sqlite3
import time
from pathlib import Path

from exfm.events.log import BEGIN, Lag, Record

_TABLES = """
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    batch_id BLOB NOT NULL,
    count INTEGER NOT NULL,
    appended_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (topic, batch_id)
);
CREATE INDEX IF NOT EXISTS by_topic ON records (topic, position, count, appended_ms);
CREATE TABLE IF NOT EXISTS commits (
    topic TEXT NOT NULL,
    consumer TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (topic, consumer)
);
"""
BUSY_S = 10.0


def connect(path: str | Path) -> sqlite3.Connection:
    """Open a file in WAL mode with explicit transactions; each commit is synced to disk."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def create(connection: sqlite3.Connection) -> None:
    """Make the log's tables where they are missing."""
    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")


def insert(connection: sqlite3.Connection, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
    """Add a record; False if its batch is there."""
    sql = "INSERT OR IGNORE INTO records (topic, batch_id, count, appended_ms, payload) VALUES (?, ?, ?, ?, ?)"
    row = (topic, batch_id, count, time.time_ns() // 1_000_000, payload)
    return connection.execute(sql, row).rowcount == 1


def read(connection: sqlite3.Connection, topic: str, after: int, limit: int) -> list[Record]:
    """Up to `limit` records above an offset."""
    sql = (
        "SELECT position, count, payload, appended_ms FROM records "
        "WHERE topic = ? AND position > ? ORDER BY position LIMIT ?"
    )
    return [Record(*row) for row in connection.execute(sql, (topic, after, limit))]


def end(connection: sqlite3.Connection, topic: str) -> int:
    """The last offset of a topic."""
    sql = "SELECT coalesce(max(position), ?) FROM records WHERE topic = ?"
    return int(connection.execute(sql, (BEGIN, topic)).fetchone()[0])


def commit(connection: sqlite3.Connection, consumer: str, topic: str, offset: int) -> None:
    """Note how far a consumer is."""
    sql = (
        "INSERT INTO commits VALUES (?, ?, ?) ON CONFLICT (topic, consumer) "
        "DO UPDATE SET position = max(position, excluded.position)"
    )
    connection.execute(sql, (topic, consumer, offset))


def committed(connection: sqlite3.Connection, consumer: str, topic: str) -> int:
    """How far a consumer is."""
    sql = "SELECT position FROM commits WHERE topic = ? AND consumer = ?"
    row = connection.execute(sql, (topic, consumer)).fetchone()
    return int(row[0]) if row else BEGIN


def lag(connection: sqlite3.Connection, consumer: str, topic: str) -> Lag:
    """What a consumer has before it."""
    return ahead(connection, topic, committed(connection, consumer, topic))


def ahead(connection: sqlite3.Connection, topic: str, after: int) -> Lag:
    """What a topic holds above an offset."""
    sql = "SELECT coalesce(sum(count), 0), coalesce(min(appended_ms), 0) FROM records WHERE topic = ? AND position > ?"
    return Lag(*connection.execute(sql, (topic, after)).fetchone())


def drop(connection: sqlite3.Connection, topic: str, before_ms: int) -> int:
    """Drop the old records of a topic that nobody consumes; the number of events in them."""
    sql = "DELETE FROM records WHERE topic = ? AND appended_ms < ? RETURNING count"
    return sum(row[0] for row in connection.execute(sql, (topic, before_ms)).fetchall())


def trim(connection: sqlite3.Connection, topic: str, before_ms: int) -> int:
    """Drop old records that all consumers are done with; the number of events in them."""
    done = "SELECT min(position) FROM commits WHERE topic = ?"
    sql = f"DELETE FROM records WHERE topic = ? AND appended_ms < ? AND position <= ({done}) RETURNING count"
    return sum(row[0] for row in connection.execute(sql, (topic, before_ms, topic)).fetchall())
