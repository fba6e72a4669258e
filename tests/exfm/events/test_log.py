"""One contract for every event log."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exfm.events.backends import open_log
from exfm.events.log import BEGIN, EventLog, LogUnavailableError
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog
from exfm.events.urls import UrlError

FUTURE_MS = 1 << 50


@pytest.fixture(params=["sqlite", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log of its own, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'log.sqlite'}"
    return f"{request.getfixturevalue('jetstream')}/{uuid.uuid4().hex}"


@pytest.fixture(params=["memory", "sqlite", "nats"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    if request.param == "memory":
        made: EventLog = MemoryLog()
    elif request.param == "sqlite":
        made = open_log(f"sqlite:{tmp_path / 'log.sqlite'}")
    else:
        made = open_log(f"{request.getfixturevalue('jetstream')}/{uuid.uuid4().hex}")
    yield made
    made.close()


def fill(log: EventLog, topic: str, count: int) -> None:
    for number in range(count):
        assert log.append(topic, f"{topic}{number}".encode(), 2, f"{topic}{number}".encode())


def test_records_come_back_in_order_from_any_offset(log: EventLog) -> None:
    fill(log, "a", 5)
    fill(log, "b", 2)
    records = log.read("a", BEGIN, 100)
    assert [record.payload for record in records] == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert [record.offset for record in records] == sorted({record.offset for record in records})
    assert records[0].offset > BEGIN
    assert log.read("a", records[2].offset, 1) == [records[3]]
    assert log.read("a", records[-1].offset, 10) == []
    assert log.read("nothing", BEGIN, 10) == []


def test_a_batch_that_is_there_is_not_added_again(log: EventLog) -> None:
    assert log.append("a", b"one", 1, b"id")
    assert not log.append("a", b"one", 1, b"id")
    assert log.append("b", b"one", 1, b"id")
    assert len(log.read("a", BEGIN, 10)) == 1


def test_commits_belong_to_a_consumer_and_never_go_back(log: EventLog) -> None:
    fill(log, "a", 3)
    offsets = [record.offset for record in log.read("a", BEGIN, 10)]
    assert log.committed("me", "a") == BEGIN
    log.commit("me", "a", offsets[1])
    log.commit("me", "a", offsets[0])
    assert log.committed("me", "a") == offsets[1]
    assert log.committed("you", "a") == BEGIN


def test_books_and_records_are_there_after_opening_it_again(url: str) -> None:
    one = open_log(url)
    fill(one, "a", 3)
    records = one.read("a", BEGIN, 10)
    one.commit("me", "a", records[0].offset)
    one.close()
    two = open_log(url)
    assert two.read("a", two.committed("me", "a"), 10) == records[1:]
    assert not two.append("a", b"again", 2, b"a2")
    assert two.lag("me", "a").events == 4
    two.close()


def test_a_large_topic_is_read_in_order_and_whole(log: EventLog) -> None:
    for number in range(300):
        log.append("a" if number % 3 else "b", bytes(50_000) + number.to_bytes(2, "big"), 1, number.to_bytes(2, "big"))
    read, after = list[int](), BEGIN
    while records := log.read("a", after, 64):
        read += [int.from_bytes(record.payload[-2:], "big") for record in records]
        after = records[-1].offset
    assert read == [number for number in range(300) if number % 3]
    assert log.lag("me", "a").events == 200


def test_lag_is_what_was_not_committed(log: EventLog) -> None:
    before_ms = time.time_ns() // 1_000_000
    fill(log, "a", 3)
    lag = log.lag("me", "a")
    assert lag.events == 6
    assert before_ms <= lag.oldest_ms <= time.time_ns() // 1_000_000
    log.commit("me", "a", log.read("a", BEGIN, 10)[-1].offset)
    assert (log.lag("me", "a").events, log.lag("me", "a").oldest_ms) == (0, 0)
    assert log.ahead("a", BEGIN) == lag
    assert log.ahead("a", log.read("a", BEGIN, 2)[-1].offset).events == log.read("a", BEGIN, 10)[-1].count


def test_retention_waits_for_every_consumer(log: EventLog) -> None:
    fill(log, "a", 4)
    records = log.read("a", BEGIN, 10)
    assert log.trim("a", FUTURE_MS) == 0  # nobody has ever committed
    log.commit("me", "a", records[2].offset)
    log.commit("you", "a", records[1].offset)
    assert log.trim("a", records[0].appended_ms) == 0  # none is that old
    assert log.trim("a", FUTURE_MS) == 4
    assert log.read("a", BEGIN, 10) == records[2:]


def test_a_reader_meets_what_another_writer_appended(url: str) -> None:
    one, two = open_log(url), open_log(url)
    one.append("a", b"one", 1, b"1")
    two.append("a", b"two", 1, b"2")
    assert [record.payload for record in one.read("a", BEGIN, 10)] == [b"one", b"two"]
    one.close()
    two.close()


def test_what_was_appended_survives_kill_9_of_the_writer(url: str) -> None:
    code = """
import sys
from exfm.events.backends import open_log
log = open_log(sys.argv[1])
number = 0
while True:
    log.append("a", b"x", 1, number.to_bytes(8, "big"))
    sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
    number += 1
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    writer.kill()
    rest, _ = writer.communicate()
    said = 50 + rest.count("\n")
    log = open_log(url)
    assert said <= len(log.read("a", BEGIN, 1_000_000)) <= said + 1
    log.close()


def test_what_is_no_log_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no database" * 100)
    with pytest.raises(LogUnavailableError, match="junk"):
        SqliteLog(tmp_path / "junk")


@pytest.mark.parametrize("url", ["sqlite:", "kafka:x", "log.sqlite", ""])
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(UrlError, match=r"event log: .* is none of nats:\.\.\., sqlite:"):
        open_log(url)


def test_a_url_needs_a_scheme_and_a_rest(tmp_path: Path) -> None:
    opened: Callable[[str], EventLog] = open_log
    log = opened(f"sqlite:{tmp_path / 'new' / 'log'}")
    log.close()
    assert (tmp_path / "new" / "log").exists()


def test_the_end_is_the_last_record_of_the_topic(log: EventLog) -> None:
    assert log.end("a") == BEGIN
    fill(log, "a", 3)
    fill(log, "b", 1)
    assert log.end("a") == log.read("a", BEGIN, 10)[-1].offset < log.end("b")
