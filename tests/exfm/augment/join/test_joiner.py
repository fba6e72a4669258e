"""The join: every impression becomes one example, every outcome has a fate, and a cut anywhere changes nothing."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.augment.accounts import accounts
from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR, CONSUMER, Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.events import impression, outcome
from exfm.events.ids import impression_key
from exfm.events.impression import Impression
from exfm.events.log import BEGIN, LogUnavailableError
from exfm.events.memory import MemoryLog
from exfm.events.outcome import Outcome
from exfm.events.sqlite import SqliteLog
from exfm.features.schema import SchemaError

HOUR_MS = 3_600_000
OPTIONS = JoinOptions(windows_s={"click": 60.0, "buy": 3600.0}, lateness_s=5.0, idle_s=float("inf"), batch=64)
FATES = ("used", "late", "before", "orphan", "duplicate", "dead", "foreign", "unknown_task", "pending")


class Bench:
    """A joiner with a log in memory, and its output."""

    def __init__(self, world: Any, path: Path, options: JoinOptions = OPTIONS) -> None:
        self.world, self.log, self.path = world, MemoryLog(), path / "join.sqlite"
        self.options, self.clock_s, self.now_ms = options, 0.0, 0
        self.joiner = self.open()

    def open(self) -> Joiner:
        schema = self.world.source.schema
        clocks: Any = {"now_ms": lambda: self.now_ms, "clock": lambda: self.clock_s}
        return Joiner(self.log, self.path, schema, self.options, **clocks)

    def send(self, rows: list[Impression], size: int = 20) -> None:
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            self.log.append(impression.TOPIC, impression.encode(part), len(part), os.urandom(16))

    def tell(self, rows: list[Outcome], size: int = 20) -> None:
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            self.log.append(outcome.TOPIC, outcome.encode(part), len(part), os.urandom(16))

    def drain(self) -> None:
        while not self.joiner.step().idle:
            pass

    def flush(self) -> None:
        """An impression long after closes every window before it."""
        last = self.world.impressions[-1]
        self.send([last._replace(key=os.urandom(16), time_ms=last.time_ms + HOUR_MS + 10_000)])
        self.drain()

    def examples(self) -> list[dict[str, Any]]:
        output = SqliteLog(self.path)
        records = output.read(example.TOPIC, BEGIN, 100_000)
        output.close()
        return [row for record in records for row in example.decode(record.payload).to_pylist()]


@pytest.fixture
def bench(world: Callable[..., Any], tmp_path: Path) -> Iterator[Bench]:
    made = Bench(world(), tmp_path)
    yield made
    made.joiner.close()


def labels_of(row: dict[str, Any]) -> list[float]:
    return [float(each) for each in np.frombuffer(row["labels"], "<f4")]


def test_each_impression_becomes_one_example_with_the_labels_of_its_window(bench: Bench) -> None:
    bench.tell(bench.world.outcomes)
    bench.send(bench.world.impressions)
    bench.flush()
    rows, log = bench.examples(), bench.world.source.examples
    assert [row["key"] for row in rows].count(rows[0]["key"]) == 1
    assert {row["key"] for row in rows} == {each.key for each in bench.world.impressions}
    for row in rows:
        place = int(row["request_id"][1:])
        truth = [float(log.labels[task][place]) for task in bench.world.source.schema.tasks]
        if row["vertical"] == "clicks":
            truth[1] = np.nan
        else:
            truth[0] = np.nan
        assert labels_of(row) == pytest.approx(truth, nan_ok=True)
        assert row["user_ids"] == bench.world.impressions[place].user_ids
    counts = bench.joiner.accounts()
    assert counts["outcomes_used"] == len(bench.world.outcomes)
    assert counts["impressions_pending"] == 1  # the one that flushed


def test_examples_come_in_the_order_in_which_their_windows_end(bench: Bench) -> None:
    bench.send(bench.world.impressions)
    bench.flush()
    rows = bench.examples()
    for vertical in ("clicks", "buys"):
        times = [row["time_ms"] for row in rows if row["vertical"] == vertical]
        assert times == sorted(times)
    ready = [row["time_ms"] + (60_000 if row["vertical"] == "clicks" else HOUR_MS) for row in rows]
    assert ready == sorted(ready)


def test_nothing_is_emitted_before_its_window_and_the_lateness_are_over(bench: Bench) -> None:
    first = bench.world.impressions[0]._replace(vertical="clicks", time_ms=1_000_000)
    bench.send([first])
    bench.drain()
    for after_ms, expected in ((64_999, 0), (65_000, 1)):
        bench.send([first._replace(key=os.urandom(16), time_ms=1_000_000 + after_ms)])
        bench.drain()
        assert len(bench.examples()) == expected


def test_an_outcome_after_its_window_is_late_and_leaves_the_label(bench: Bench) -> None:
    first = next(each for each in bench.world.impressions if each.vertical == "clicks")
    bench.tell([Outcome(first.key, "click", 1.0, first.time_ms + 60_001)])
    bench.send(bench.world.impressions)
    bench.flush()
    row = next(row for row in bench.examples() if row["key"] == first.key)
    assert labels_of(row)[0] == 0
    assert bench.joiner.accounts()["outcomes_late"] == 1


def test_an_outcome_for_a_joined_impression_is_late_and_routed(bench: Bench) -> None:
    bench.send(bench.world.impressions)
    bench.flush()
    first = bench.world.impressions[-1]
    bench.tell([Outcome(first.key, "click", 1.0, first.time_ms + 10)])
    bench.drain()
    assert bench.joiner.accounts()["outcomes_late"] == 1
    output = SqliteLog(bench.path)
    (record,) = output.read(example.LATE_TOPIC, BEGIN, 10)
    output.close()
    assert outcome.decode(record.payload)[0].key == first.key


def test_an_outcome_waits_for_its_impression_and_becomes_an_orphan_if_none_comes(bench: Bench) -> None:
    early = bench.world.impressions[0]
    stray = os.urandom(16)
    bench.tell(
        [Outcome(early.key, bench.world.source.schema.vertical(early.vertical).tasks[0], 1.0, early.time_ms + 5)]
    )
    bench.tell([Outcome(stray, "click", 1.0, early.time_ms)])
    bench.drain()
    assert bench.joiner.accounts()["outcomes_pending"] == 2
    bench.send(bench.world.impressions)
    bench.flush()
    counts = bench.joiner.accounts()
    assert (counts["outcomes_used"], counts["outcomes_orphan"], counts["outcomes_pending"]) == (1, 1, 0)


def test_duplicates_are_dropped_and_counted(bench: Bench) -> None:
    rows = bench.world.impressions[-5:]
    first_task = {each.name: each.tasks[0] for each in bench.world.source.schema.verticals}
    outcomes = [Outcome(row.key, first_task[row.vertical], 1.0, row.time_ms) for row in rows]
    for _ in range(2):
        bench.tell(outcomes)
        bench.send(rows)
        bench.drain()
    bench.flush()
    bench.send(rows)  # joined by now
    bench.drain()
    counts = bench.joiner.accounts()
    assert len(bench.examples()) == 5
    assert counts["impressions_duplicate"] == 10
    assert counts["outcomes_duplicate"] + counts.get("outcomes_late", 0) == 5


def test_what_is_older_than_the_memory_of_duplicates_is_stale(bench: Bench) -> None:
    bench.flush()
    bench.send([bench.world.impressions[0]._replace(time_ms=1)])
    bench.drain()
    assert bench.joiner.accounts()["impressions_stale"] == 1


def test_damage_and_unknown_verticals_are_dead_letters(bench: Bench) -> None:
    bench.log.append(impression.TOPIC, b"junk", 7, b"1")
    bench.log.append(outcome.TOPIC, b"junk", 3, b"2")
    bench.send([bench.world.impressions[0]._replace(vertical="nobody"), *bench.world.impressions[1:5]])
    bench.drain()
    bench.flush()
    counts = bench.joiner.accounts()
    assert (counts["impressions_dead"], counts["outcomes_dead"]) == (8, 3)
    assert len(bench.examples()) == 4


def test_tasks_that_nobody_has_and_foreign_ones_are_counted(bench: Bench) -> None:
    buys = next(each for each in bench.world.impressions if each.vertical == "buys")
    bench.tell([Outcome(buys.key, task, 1.0, buys.time_ms) for task in ("nothing", "click")])
    bench.send(bench.world.impressions)
    bench.flush()
    counts = bench.joiner.accounts()
    assert (counts["outcomes_unknown_task"], counts["outcomes_foreign"]) == (1, 1)


def test_a_clock_that_is_ahead_moves_event_time_no_further_than_the_logs_own(bench: Bench) -> None:
    now_ms = time.time_ns() // 1_000_000
    first = bench.world.impressions[0]._replace(vertical="clicks")
    bench.send([first._replace(key=os.urandom(16), time_ms=now_ms + 1000 * HOUR_MS)])
    bench.send([first._replace(key=os.urandom(16), time_ms=now_ms - each) for each in (10_000, 30_000)])
    bench.drain()
    counts = bench.joiner.accounts()
    assert (counts["impressions_ahead"], counts["impressions_pending"], bench.examples()) == (1, 3, [])
    assert counts["watermark_ms"] <= time.time_ns() // 1_000_000 - 5000
    assert "impressions_stale" not in counts


def test_the_time_of_day_moves_on_where_no_events_do(world: Callable[..., Any], tmp_path: Path) -> None:
    bench = Bench(world(), tmp_path, JoinOptions(windows_s=OPTIONS.windows_s, lateness_s=5.0, idle_s=30.0))
    bench.send(bench.world.impressions)
    bench.now_ms = bench.world.impressions[-1].time_ms + 10 * HOUR_MS
    bench.drain()
    pending = bench.joiner.accounts()["impressions_pending"]
    assert pending > 0
    bench.clock_s = 29.0
    bench.drain()
    assert bench.joiner.accounts()["impressions_pending"] == pending
    bench.clock_s = 31.0
    bench.drain()
    assert bench.joiner.accounts()["impressions_pending"] == 0
    assert len(bench.examples()) == len(bench.world.impressions)
    bench.joiner.close()


def test_it_pauses_while_too_much_waits_for_annotation(world: Callable[..., Any], tmp_path: Path) -> None:
    bench = Bench(world(), tmp_path, JoinOptions(windows_s=OPTIONS.windows_s, idle_s=0.0, most_examples=100, batch=64))
    bench.now_ms = 1 << 50
    bench.send(bench.world.impressions)
    bench.joiner.step()
    bench.joiner.step()
    step = bench.joiner.step()
    assert step.paused
    assert step.idle
    output = SqliteLog(bench.path)
    output.commit(ANNOTATOR, example.TOPIC, output.read(example.TOPIC, BEGIN, 1000)[-1].offset)
    assert not bench.joiner.step().paused
    output.close()
    bench.joiner.close()


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_at_any_statement_loses_and_repeats_nothing(world: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    bench, draw = Bench(world(), tmp_path), np.random.default_rng(seed)
    bench.tell(bench.world.outcomes)
    bench.send(bench.world.impressions)
    bench.send(bench.world.impressions[-10:])
    last = bench.world.impressions[-1]
    bench.send([last._replace(key=b"f" * 16, time_ms=last.time_ms + HOUR_MS + 10_000)])
    cuts = 0
    for _ in range(6):
        left = [int(draw.integers(1, 400))]

        def cut(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        # SQLite asks this every 50 instructions and gives up where it is told to.
        bench.joiner._state.connection.set_progress_handler(cut, 50)
        try:
            while not bench.joiner.step().idle:
                pass
        except LogUnavailableError:
            cuts += 1
            bench.joiner.close()
            bench.joiner = bench.open()
    assert cuts
    bench.joiner._state.connection.set_progress_handler(None, 0)
    bench.drain()
    rows = bench.examples()
    assert sorted(row["key"] for row in rows) == sorted(each.key for each in bench.world.impressions)
    counts = bench.joiner.accounts()
    assert counts["impressions_duplicate"] == 10
    assert sum(counts.get(f"outcomes_{name}", 0) for name in FATES) == len(bench.world.outcomes)
    bench.joiner.close()


def test_verticals_may_reuse_a_request_and_an_ad(bench: Bench) -> None:
    rows = bench.world.impressions
    click, buy = (next(each for each in rows if each.vertical == name) for name in ("clicks", "buys"))
    same = [each._replace(key=impression_key(each.vertical, "r", 5), request_id="r", ad=5) for each in (click, buy)]
    bench.send(same)
    bench.tell([Outcome(same[1].key, "buy", 1.0, same[1].time_ms + 1)])
    bench.flush()
    made = {row["vertical"]: labels_of(row) for row in bench.examples() if row["request_id"] == "r"}
    assert made == {
        "clicks": [0.0, pytest.approx(np.nan, nan_ok=True)],
        "buys": [pytest.approx(np.nan, nan_ok=True), 1.0],
    }


def test_what_is_late_or_dead_is_trimmed_and_stays_counted(bench: Bench) -> None:
    rows = bench.world.impressions
    bench.log.append(impression.TOPIC, b"junk", 3, os.urandom(16))
    bench.send(rows)
    bench.flush()
    tasks = {"clicks": "click", "buys": "buy"}
    bench.tell([Outcome(each.key, tasks[each.vertical], 1.0, each.time_ms + 1) for each in rows[-3:]])
    bench.drain()
    output = SqliteLog(bench.path)
    books = accounts(bench.log, output, bench.joiner.accounts(), [])
    assert books["impressions"]["dead"] == 3
    assert books["outcomes"]["late"] == 3
    assert bench.joiner.trim(0) == 0
    assert output.read(example.LATE_TOPIC, BEGIN, 1)
    bench.joiner.trim(1 << 60)
    for topic in (example.LATE_TOPIC, example.DEAD_TOPIC):
        assert not output.read(topic, BEGIN, 1)
    assert accounts(bench.log, output, bench.joiner.accounts(), []) == books
    assert books["impressions"]["unaccounted"] == books["outcomes"]["unaccounted"] == 0
    output.close()


def replace_log(bench: Bench, offset: int) -> None:
    """Another log in place of the one that was read; its first record has that offset."""
    bench.joiner.close()
    bench.log = MemoryLog()
    bench.log._next = offset
    time.sleep(0.002)  # no record is as old as one of the log before
    bench.joiner = bench.open()


@pytest.mark.parametrize("size", [1, 7, 300], ids=["longer", "middling", "shorter"])
def test_a_log_that_begins_again_is_read_whole(bench: Bench, size: int, caplog: pytest.LogCaptureFixture) -> None:
    rows, told = bench.world.impressions, bench.world.outcomes
    half = [each for each in told if each.key in {row.key for row in rows[:150]}]
    bench.tell(half, 20)
    bench.send(rows[:150], 20)
    bench.drain()
    assert bench.joiner.accounts()["impressions_pending"]
    replace_log(bench, BEGIN + 1)
    bench.joiner.step()  # while there is nothing in it
    assert bench.log.committed(CONSUMER, impression.TOPIC) == BEGIN
    bench.tell(told, size)
    bench.send(rows[140:], size)
    bench.flush()
    assert "is read again" in caplog.text
    made = bench.examples()
    assert sorted(row["key"] for row in made) == sorted(each.key for each in rows)
    positive = sum(sum(each for each in labels_of(row) if each == 1) for row in made)
    assert positive == len(told)
    counts = bench.joiner.accounts()
    assert counts["impressions_duplicate"] == 10
    assert bench.log.lag(CONSUMER, impression.TOPIC).events == 0


@pytest.mark.parametrize("lost", [1, 3])
def test_records_that_took_the_place_of_lost_ones_are_read(bench: Bench, lost: int) -> None:
    """A node lost its last records, and those that came since have their offsets."""
    rows = bench.world.impressions[:100]
    bench.send(rows[:80])
    bench.drain()
    kept = bench.log._records[impression.TOPIC][:-lost]
    bench.log._records[impression.TOPIC] = kept
    bench.log._next = kept[-1].offset + 1
    time.sleep(0.002)
    bench.send(rows[80:])
    bench.flush()
    assert sorted(row["key"] for row in bench.examples()) == sorted(each.key for each in rows)


def test_the_books_of_a_log_that_lost_records_have_all_that_is_read_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster lost its last records, and not how far its consumers were."""
    rows = bench.world.impressions
    bench.send(rows[:80])
    bench.drain()
    bench.log._records[impression.TOPIC] = kept = bench.log._records[impression.TOPIC][:-3]
    bench.log._next = kept[-1].offset + 1
    time.sleep(0.002)
    bench.send(rows[80:100])
    assert bench.log.lag(CONSUMER, impression.TOPIC).events == 0  # all below its commit
    with closing(SqliteLog(bench.path)) as output:
        shown = accounts(bench.log, output, bench.joiner.accounts(), [])["impressions"]
    assert (shown["pending"] + shown["waiting"], shown["logged"], shown["unaccounted"]) == (80 + 40, 80 + 40, 0)
    assert not caplog.text  # who only looks reads nothing again


def test_what_retention_took_of_the_log_is_no_loss(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.tell(bench.world.outcomes[:20])
    bench.send(bench.world.impressions[:100])
    bench.drain()
    for topic in (impression.TOPIC, outcome.TOPIC):
        assert bench.log.trim(topic, 1 << 60)
    bench.drain()
    bench.send(bench.world.impressions[100:])
    bench.flush()
    assert not caplog.text
    assert "impressions_duplicate" not in bench.joiner.accounts()


def test_it_emits_while_outcomes_come_faster_than_a_step_reads_them(world: Callable[..., Any], tmp_path: Path) -> None:
    few = JoinOptions(windows_s=OPTIONS.windows_s, lateness_s=5.0, idle_s=float("inf"), records=2)
    bench = Bench(world(), tmp_path, few)
    told = {each.key: each for each in bench.world.outcomes}
    bench.tell(bench.world.outcomes, 10)
    bench.send(bench.world.impressions, 200)
    last = bench.world.impressions[-1]
    bench.send([last._replace(key=os.urandom(16), time_ms=last.time_ms + HOUR_MS + 10_000)])
    for _ in range(12):
        bench.tell([Outcome(os.urandom(16), "click", 1.0, last.time_ms) for _ in range(16)], 1)
        bench.joiner.step()
    assert bench.log.lag(CONSUMER, outcome.TOPIC).events > 0
    made = bench.examples()
    assert len(made) == len(bench.world.impressions)
    assert {row["key"] for row in made if 1 in labels_of(row)} == set(told)
    bench.joiner.close()


def test_an_outcome_long_before_its_impression_is_no_positive(bench: Bench) -> None:
    """Its time is in seconds, or of a clock that is wrong."""
    first, second = [each for each in bench.world.impressions if each.vertical == "clicks"][:2]
    bench.send(bench.world.impressions)
    bench.drain()
    bench.joiner.close()
    bench.path.unlink()
    bench.joiner = bench.open()
    bench.tell([Outcome(first.key, "click", 1.0, first.time_ms // 1000)])
    bench.tell([Outcome(second.key, "click", 1.0, second.time_ms - 4000)])
    bench.flush()
    made = {row["key"]: labels_of(row)[0] for row in bench.examples()}
    assert (made[first.key], made[second.key]) == (0, 1)
    output = SqliteLog(bench.path)
    books = accounts(bench.log, output, bench.joiner.accounts(), [])
    (record,) = output.read(example.DEAD_TOPIC, BEGIN, 10)
    output.close()
    assert (books["outcomes"]["before"], books["outcomes"]["unaccounted"]) == (1, 0)
    assert outcome.decode(record.payload)[0].key == first.key


def test_an_outcome_that_comes_again_after_the_join_is_a_duplicate(bench: Bench) -> None:
    rows = bench.world.impressions[-3:]
    first_task = {each.name: each.tasks[0] for each in bench.world.source.schema.verticals}
    again = [Outcome(row.key, first_task[row.vertical], 1.0, row.time_ms) for row in rows]
    bench.tell(again)
    bench.send(rows)
    bench.flush()
    assert len(bench.examples()) == 3
    fresh = [each._replace(time_ms=each.time_ms + 1) for each in again]
    for told in (again, fresh, fresh):
        bench.tell(told)
        bench.drain()
    counts = bench.joiner.accounts()
    assert (counts["outcomes_late"], counts["outcomes_duplicate"]) == (3, 6)


def test_windows_of_tasks_that_nobody_has_are_refused(world: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no task 'purchase'; there are click, buy"):
        Bench(world(), tmp_path, JoinOptions(windows_s={"purchase": 60.0, "buy": 60.0}))


def test_the_output_is_free_while_the_log_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who annotates commits there, and must not wait for a slow log."""
    output, free = SqliteLog(bench.path), 0
    output._connection.execute("PRAGMA busy_timeout = 0")
    read = bench.log.read

    def slow(topic: str, after: int, limit: int) -> list[Any]:
        nonlocal free
        output.commit(ANNOTATOR, example.TOPIC, 0)
        free += 1
        return read(topic, after, limit)

    monkeypatch.setattr(bench.log, "read", slow)
    bench.send(bench.world.impressions[:20])
    bench.joiner.step()
    output.close()
    assert free >= 2


def test_two_joiners_of_one_file_do_not_read_a_record_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other, read = bench.open(), bench.log.read
    bench.send(bench.world.impressions[:20])

    def overtaken(topic: str, after: int, limit: int) -> list[Any]:
        records = read(topic, after, limit)
        monkeypatch.setattr(bench.log, "read", read)
        other.step()
        return records

    monkeypatch.setattr(bench.log, "read", overtaken)
    with pytest.raises(LogUnavailableError, match="another process"):
        bench.joiner.step()
    bench.drain()
    other.close()
    assert bench.joiner.accounts()["impressions_read"] == 20
