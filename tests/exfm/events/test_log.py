"""One contract for every event log."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exfm.events.backends import open_log
from exfm.events.log import BEGIN, EventLog, LogUnavailableError
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog
from exfm.events.urls import UrlError

FUTURE_MS = 1 << 50


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    made: EventLog = MemoryLog() if request.param == "memory" else open_log(f"sqlite:{tmp_path / 'log.sqlite'}")
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


def test_lag_is_what_was_not_committed(log: EventLog) -> None:
    before_ms = time.time_ns() // 1_000_000
    fill(log, "a", 3)
    lag = log.lag("me", "a")
    assert lag.events == 6
    assert before_ms <= lag.oldest_ms <= time.time_ns() // 1_000_000
    log.commit("me", "a", log.read("a", BEGIN, 10)[-1].offset)
    assert (log.lag("me", "a").events, log.lag("me", "a").oldest_ms) == (0, 0)


def test_retention_waits_for_every_consumer(log: EventLog) -> None:
    fill(log, "a", 4)
    records = log.read("a", BEGIN, 10)
    assert log.trim("a", FUTURE_MS) == 0  # nobody has ever committed
    log.commit("me", "a", records[2].offset)
    log.commit("you", "a", records[1].offset)
    assert log.trim("a", records[0].appended_ms) == 0  # none is that old
    assert log.trim("a", FUTURE_MS) == 4
    assert log.read("a", BEGIN, 10) == records[2:]


def test_a_reader_meets_what_another_writer_appended(tmp_path: Path) -> None:
    one, two = SqliteLog(tmp_path / "log"), SqliteLog(tmp_path / "log")
    one.append("a", b"one", 1, b"1")
    two.append("a", b"two", 1, b"2")
    assert [record.payload for record in one.read("a", BEGIN, 10)] == [b"one", b"two"]
    one.close()
    two.close()


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    code = """
import sys
from exfm.events.sqlite import SqliteLog
log = SqliteLog(sys.argv[1])
number = 0
while True:
    log.append("a", b"x", 1, number.to_bytes(8, "big"))
    sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
    number += 1
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    writer.kill()
    rest, _ = writer.communicate()
    said = 50 + rest.count("\n")
    log = SqliteLog(tmp_path / "log")
    assert said <= len(log.read("a", BEGIN, 1_000_000)) <= said + 1
    log.close()


def test_what_is_no_log_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no database" * 100)
    with pytest.raises(LogUnavailableError, match="junk"):
        SqliteLog(tmp_path / "junk")


@pytest.mark.parametrize("url", ["sqlite:", "kafka:x", "log.sqlite", ""])
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(UrlError, match=r"event log: .* is none of sqlite:"):
        open_log(url)


def test_a_url_needs_a_scheme_and_a_rest(tmp_path: Path) -> None:
    opened: Callable[[str], EventLog] = open_log
    log = opened(f"sqlite:{tmp_path / 'new' / 'log'}")
    log.close()
    assert (tmp_path / "new" / "log").exists()
