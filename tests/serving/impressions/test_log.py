"""The bounded way to the log: offers never wait, acknowledged outcomes are durable, what is dropped is counted."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exfm.events import impression, outcome
from exfm.events.ids import impression_key
from exfm.events.impression import BLOCKS, Impression
from exfm.events.log import BEGIN, LogUnavailableError
from exfm.events.memory import MemoryLog
from exfm.events.outcome import Outcome
from exfm.events.sqlite import SqliteLog
from serving.errors import OverloadedError
from serving.impressions.log import LogOptions, ServingLog

Make = Callable[..., ServingLog]


def row(number: int = 0, request_id: str | None = None, bid: float = 1.0) -> Impression:
    name = f"r{number}" if request_id is None else request_id
    key = impression_key("clicks", name, number)
    blocks = dict.fromkeys(BLOCKS, b"")
    return Impression(key, name, number, 1, 5, "feed", 1, "hash", "full", "", 0, bid, b"", b"", **blocks)


def told(number: int = 0) -> Outcome:
    return Outcome(impression_key("clicks", f"r{number}", number), "click", 1.0, 7)


class Gate:
    """A log in memory that can be held up and broken."""

    def __init__(self) -> None:
        self.inner, self.open, self.broken = MemoryLog(), threading.Event(), False
        self.open.set()
        self.closed = 0
        self.error: Exception = LogUnavailableError("disk full")

    def append(self, *record: Any) -> bool:
        self.open.wait(10)
        if self.broken:
            raise self.error
        return self.inner.append(*record)

    def close(self) -> None:
        self.closed += 1
        if self.broken and not isinstance(self.error, LogUnavailableError):
            raise self.error


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def make(gate: Gate) -> Iterator[Make]:
    started: list[ServingLog] = []

    def start(**options: Any) -> ServingLog:
        made = ServingLog(lambda: gate, LogOptions(linger_s=0.005, **options))  # type: ignore[arg-type,return-value]
        made.start()
        started.append(made)
        return made

    yield start
    gate.open.set()
    for each in started:
        each.close()


def kept(gate: Gate) -> list[str]:
    records = gate.inner.read(impression.TOPIC, BEGIN, 10_000)
    return [name for each in records for name in impression.decode(each.payload).column("request_id").to_pylist()]


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def test_impressions_arrive_in_order_and_in_batches(make: Make, gate: Gate) -> None:
    log = make(batch=10)
    log.offer([row(number) for number in range(25)])
    log.close()
    assert kept(gate) == [f"r{number}" for number in range(25)]
    assert max(record.count for record in gate.inner.read(impression.TOPIC, BEGIN, 99)) == 10
    assert log.written[impression.TOPIC] == 25
    assert gate.closed == 1


def test_offering_never_waits_and_what_is_too_much_is_counted(make: Make, gate: Gate) -> None:
    log = make(most_impressions=50, batch=5)
    gate.open.clear()
    before_s = time.monotonic()
    log.offer([row(number) for number in range(200)])
    assert time.monotonic() - before_s < 1.0
    dropped = log.dropped["queue_full"]
    assert dropped >= 140
    gate.open.set()
    log.close()
    assert len(kept(gate)) == 200 - dropped


def test_a_request_without_an_id_is_not_kept(make: Make, gate: Gate) -> None:
    log = make()
    log.offer([row(1, request_id="")])
    log.close()
    assert log.dropped == {"no_request_id": 1}
    assert kept(gate) == []


def test_impressions_outlast_an_outage(make: Make, gate: Gate) -> None:
    log = make(batch=10)
    gate.broken = True
    log.offer([row(number) for number in range(15)])
    wait_for(lambda: gate.closed > 2)
    gate.broken = False
    wait_for(lambda: log.written[impression.TOPIC] == 15)
    assert kept(gate) == [f"r{number}" for number in range(15)]


def test_what_an_outage_outlasts_is_counted(make: Make, gate: Gate) -> None:
    log = make()
    gate.broken = True
    log.offer([row(number) for number in range(15)])
    log.close()
    assert log.dropped["log_failed"] == 15
    log.offer([row(99)])
    assert log.dropped["closed"] == 1


def test_what_a_stuck_log_outlasts_is_counted_when_the_time_to_close_is_over(make: Make, gate: Gate) -> None:
    log = make(batch=10)
    gate.open.clear()
    log.offer([row(number) for number in range(15)])
    wait_for(lambda: log._batch is not None)
    log.close(timeout_s=0.05)
    assert (log.dropped, log.queued) == ({"log_failed": 15}, 0)
    gate.open.set()
    wait_for(lambda: gate.closed == 1)
    log.close()
    assert log.dropped == {"log_failed": 15}
    assert len(kept(gate)) <= 10  # the batch in hand


async def test_closing_a_stuck_log_refuses_outcomes_that_wait(make: Make, gate: Gate) -> None:
    log = make()
    gate.open.clear()
    log.offer([row()])
    await asyncio.to_thread(wait_for, lambda: log._batch is not None)
    asked = asyncio.create_task(log.record([told()]))
    await asyncio.sleep(0)
    await asyncio.to_thread(log.close, 0.05)
    with pytest.raises(OverloadedError, match="can't be written now"):
        await asyncio.wait_for(asked, 5)


async def test_what_nobody_foresaw_is_refused_or_counted_and_the_log_goes_on(make: Make, gate: Gate) -> None:
    log = make(batch=10)
    gate.error, gate.broken = ZeroDivisionError("a fault"), True
    with pytest.raises(OverloadedError, match="can't be written now"):
        await asyncio.wait_for(log.record([told()]), 5)
    log.offer([row(number) for number in range(3)])
    await asyncio.to_thread(wait_for, lambda: log.dropped["log_failed"] == 3)
    gate.broken = False
    log.offer([row(7)])
    await asyncio.wait_for(log.record([told()]), 5)
    await asyncio.to_thread(log.close)
    assert kept(gate) == ["r7"]


def test_a_loop_that_is_gone_does_no_harm(make: Make, gate: Gate) -> None:
    log = make()
    gate.open.clear()

    async def leave() -> None:
        asked = asyncio.create_task(log.record([told()]))
        await asyncio.sleep(0.02)
        asked.cancel()

    asyncio.run(leave())
    gate.open.set()
    wait_for(lambda: log.written[outcome.TOPIC] == 1)
    log.offer([row(1)])
    log.close()
    assert kept(gate) == ["r1"]


def test_a_row_that_does_not_fit_is_counted(make: Make, gate: Gate) -> None:
    log = make()
    log.offer([row(1)._replace(key=b"short")])
    wait_for(lambda: log.dropped["not_encoded"] == 1)
    log.offer([row(2)])
    log.close()
    assert kept(gate) == ["r2"]


async def test_outcomes_are_acknowledged_once_they_are_in_the_log(make: Make, gate: Gate) -> None:
    log = make()
    gate.open.clear()
    asked = asyncio.create_task(log.record([told(1), told(2)]))
    await asyncio.sleep(0.05)
    assert not asked.done()
    gate.open.set()
    await asyncio.wait_for(asked, 5)
    (record,) = gate.inner.read(outcome.TOPIC, BEGIN, 9)
    assert outcome.decode(record.payload) == [told(1), told(2)]
    await log.record([])


async def test_calls_that_wait_together_are_written_together(make: Make, gate: Gate) -> None:
    log = make()
    gate.open.clear()
    calls = [asyncio.create_task(log.record([told(number)])) for number in range(40)]
    await asyncio.sleep(0.05)
    gate.open.set()
    await asyncio.gather(*calls)
    assert len(gate.inner.read(outcome.TOPIC, BEGIN, 99)) <= 2


async def test_outcomes_that_cannot_be_kept_are_refused_with_advice(make: Make, gate: Gate) -> None:
    log = make(most_outcomes=3)
    gate.broken = True
    with pytest.raises(OverloadedError, match="can't be written now") as refused:
        await log.record([told()])
    assert refused.value.pushback_ms == 1000
    gate.broken = False
    await log.record([told()])
    with pytest.raises(OverloadedError, match="faster than they can be kept"):
        await log.record([told(number) for number in range(4)])


async def test_a_caller_that_has_gone_does_no_harm(make: Make, gate: Gate) -> None:
    log = make()
    gate.open.clear()
    asked = asyncio.create_task(log.record([told()]))
    await asyncio.sleep(0.02)
    asked.cancel()
    gate.open.set()
    await log.record([told(2)])
    assert log.written[outcome.TOPIC] == 2


async def test_with_a_real_log_the_rows_come_back(tmp_path: Path) -> None:
    log = ServingLog(lambda: SqliteLog(tmp_path / "log.sqlite"))
    log.start()
    log.offer([row(1), row(2)])
    await log.record([told(1)])
    await asyncio.to_thread(log.close)
    reader = SqliteLog(tmp_path / "log.sqlite")
    (first,) = reader.read(impression.TOPIC, BEGIN, 9)
    assert [Impression(*each.values()) for each in impression.decode(first.payload).to_pylist()] == [row(1), row(2)]
    assert reader.lag("x", outcome.TOPIC).events == 1
    reader.close()


class Eager(Gate):
    """A log beside which requests never stop: each write lets more impressions come than it took."""

    def __init__(self) -> None:
        super().__init__()
        self.more: Callable[[], None] = lambda: None

    def append(self, *record: Any) -> bool:
        self.more()
        return super().append(*record)


async def test_outcomes_do_not_wait_for_a_pause_in_the_impressions() -> None:
    eager, numbers = Eager(), iter(range(10**6))
    log = ServingLog(lambda: eager, LogOptions(linger_s=0.001, batch=5))  # type: ignore[arg-type,return-value]
    eager.more = lambda: log.offer([row(next(numbers)) for _ in range(5)])
    eager.more()
    log.start()
    try:
        await asyncio.wait_for(log.record([told()]), 5.0)
        assert log.written[outcome.TOPIC] == 1
    finally:
        eager.more = lambda: None
        log.close()
