"""The join: impressions wait for their attribution window, then become examples, each exactly once.

A step reads from the log, changes the state and writes its output in one transaction, so it can be cut off anywhere.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from exfm.augment.join import example
from exfm.augment.join.label import Labels
from exfm.augment.join.state import JoinState, Waiting
from exfm.augment.join.windows import JoinOptions, Watermark
from exfm.events import impression, outcome, tables
from exfm.events.log import EventLog, Record
from exfm.events.outcome import Outcome
from exfm.events.wire import EventError
from exfm.features.schema import Schema

CONSUMER = "join"
ANNOTATOR = "annotate"
"""The consumer of the join's output."""
_WATERMARK = "watermark"
_EMITS = 8
"""Records that one step emits at most."""


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        read: events.
        emitted: examples.
        paused: nothing was read, since too many examples wait for annotation.
    """

    read: int
    emitted: int
    paused: bool = False

    @property
    def idle(self) -> bool:
        """There was nothing to do."""
        return not (self.read or self.emitted)


class Joiner:
    """One process joins one log; its state and output are a file.

    Args:
        log: where serving writes.
        path: the file.
        schema: the whole schema; says which tasks a vertical has.
        options: windows and bounds.
        now_ms: the time of day.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        log: EventLog,
        path: Path,
        schema: Schema,
        options: JoinOptions | None = None,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._state = JoinState(path)
        self._schema = schema
        self._options = options or JoinOptions()
        self._labels = Labels(schema, self._options)
        self._waits_ms = self._options.windows_ms(schema)
        self._horizon_ms = self._options.horizon_ms(schema)
        self._now_ms, self._clock = now_ms, clock
        self._busy_s = clock()

    def step(self) -> Step:
        """Read a bounded amount, emit what is ripe.

        Raises:
            LogUnavailableError: nothing was done; try again.
        """
        state, counts = self._state, Counter[str]()
        with state.transaction():
            if tables.lag(state.connection, ANNOTATOR, example.TOPIC).events > self._options.most_examples:
                return Step(0, 0, paused=True)
            watermark = Watermark(state.position(_WATERMARK))
            read, watermark = self._take_impressions(watermark, counts)
            more, drained = self._take_outcomes(counts)
            watermark = self._in_idle_times(watermark, read + more)
            # What outcomes there are in the log must be known before a label is called negative.
            emitted = self._emit(watermark, counts) if drained else 0
            if drained:
                counts["outcomes_orphan"] += state.forget(watermark.at_ms)
            state.move(_WATERMARK, watermark.at_ms)
            state.count(counts)
            positions = {topic: state.position(topic) for topic in (impression.TOPIC, outcome.TOPIC)}
        for topic, position in positions.items():
            self._log.commit(CONSUMER, topic, position)
        return Step(read + more, emitted)

    def accounts(self) -> dict[str, int]:
        """The running counts, with what is pending: `impressions_read` is the sum of the impressions' other fates."""
        with self._state.transaction():
            sizes = {
                "impressions_pending": self._state.size("pending"),
                "outcomes_pending": self._state.size("outcomes"),
                "watermark_ms": self._state.position(_WATERMARK),
            }
            return {**self._state.counts(), **sizes}

    def trim(self, before_ms: int) -> int:
        """Drop output older than that: what was annotated, what is late and what is dead; how many examples went.

        The counts of `accounts` stay.
        """
        connection = self._state.connection
        with self._state.transaction():
            for topic in (example.LATE_TOPIC, example.DEAD_TOPIC):
                tables.drop(connection, topic, before_ms)
            return tables.trim(connection, example.TOPIC, before_ms)

    def close(self) -> None:
        """Let go of the file; the log is the caller's."""
        self._state.close()

    def _in_idle_times(self, watermark: Watermark, read: int) -> Watermark:
        now_s = self._clock()
        if read:
            self._busy_s = now_s
            return watermark
        if now_s - self._busy_s < self._options.idle_s:
            return watermark
        return watermark.seen(self._now_ms(), round(self._options.lateness_s * 1e3))

    def _take_impressions(self, watermark: Watermark, counts: "Counter[str]") -> tuple[int, Watermark]:
        state, after = self._state, self._state.position(impression.TOPIC)
        read = 0
        for record in self._log.read(impression.TOPIC, after, self._options.records):
            read += record.count
            counts["impressions_read"] += record.count
            try:
                batch = impression.decode(record.payload)
            except EventError:
                counts["impressions_dead"] += record.count
                self._put(example.DEAD_TOPIC, record.payload, record.count)
            else:
                watermark = self._wait(batch, record, watermark, counts)
            state.move(impression.TOPIC, record.offset)
        return read, watermark

    def _wait(self, batch: pa.RecordBatch, record: Record, watermark: Watermark, counts: "Counter[str]") -> Watermark:
        rows = []
        columns = (batch.column(name).to_pylist() for name in ("key", "vertical", "time_ms"))
        lateness_ms = round(self._options.lateness_s * 1e3)
        for place, (key, vertical, time_ms) in enumerate(zip(*columns, strict=True)):
            if vertical not in self._waits_ms:
                counts["impressions_dead"] += 1
                self._put(example.DEAD_TOPIC, payload_of(batch, place), 1)
            elif time_ms + self._horizon_ms < watermark.at_ms:
                counts["impressions_stale"] += 1
            else:
                rows.append(Waiting(key, time_ms + self._waits_ms[vertical], time_ms, record.offset, place))
                watermark = watermark.seen(time_ms, lateness_ms, known_ms=record.appended_ms)
                counts["impressions_ahead"] += time_ms > record.appended_ms + lateness_ms
        fresh = self._state.wait(rows, record.payload)
        counts["impressions_duplicate"] += len(rows) - fresh
        return watermark

    def _take_outcomes(self, counts: "Counter[str]") -> tuple[int, bool]:
        """How many were read, and whether none is left."""
        state, options = self._state, self._options
        records = self._log.read(outcome.TOPIC, state.position(outcome.TOPIC), 4 * options.records)
        for record in records:
            counts["outcomes_read"] += record.count
            try:
                self._keep(outcome.decode(record.payload), counts)
            except EventError:
                counts["outcomes_dead"] += record.count
                self._put(example.DEAD_TOPIC, record.payload, record.count)
            state.move(outcome.TOPIC, record.offset)
        return sum(record.count for record in records), len(records) < 4 * options.records

    def _keep(self, rows: list[Outcome], counts: "Counter[str]") -> None:
        known = [row for row in rows if row.task in self._labels.columns]
        counts["outcomes_unknown_task"] += len(rows) - len(known)
        joined = self._state.joined_among(row.key for row in known)
        early = [row for row in known if row.key not in joined]
        self._route_late([row for row in known if row.key in joined], counts)
        until_ms = [row.time_ms + self._labels.wait_ms(row.task) for row in early]
        counts["outcomes_duplicate"] += len(early) - self._state.add_outcomes(early, until_ms)

    def _emit(self, watermark: Watermark, counts: "Counter[str]") -> int:
        emitted = 0
        for _ in range(_EMITS):
            ripe = self._state.ripe(watermark.at_ms, self._options.batch)
            if not ripe:
                break
            labelled = self._labels.of(gather(ripe, self._state.payload), self._state.outcomes_of(ripe))
            self._route_late(labelled.late, counts)
            self._put(example.TOPIC, example.encode(labelled.batch), len(ripe))
            self._state.settle(ripe, self._horizon_ms)
            counts["outcomes_used"] += labelled.used
            counts["outcomes_foreign"] += labelled.foreign
            emitted += len(ripe)
        counts["examples"] += emitted
        return emitted

    def _route_late(self, rows: list[Outcome], counts: "Counter[str]") -> None:
        if rows:
            counts["outcomes_late"] += len(rows)
            self._put(example.LATE_TOPIC, outcome.encode(rows), len(rows))

    def _put(self, topic: str, payload: bytes, count: int) -> None:
        tables.insert(self._state.connection, topic, payload, count, os.urandom(16))


def payload_of(batch: pa.RecordBatch, place: int) -> bytes:
    """One row of a batch of impressions as a batch of its own."""
    return impression.encode([impression.Impression(*batch.slice(place, 1).to_pylist()[0].values())])


def gather(rows: list[Waiting], payload: Callable[[int], bytes]) -> pa.RecordBatch:
    """The impressions' rows out of their batches, in the given order."""
    places: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault(row.batch, []).append(index)
    parts, order = [], []
    for batch, indices in places.items():
        taken = pa.array([rows[index].place for index in indices], pa.int64())
        parts.append(impression.decode(payload(batch)).take(taken))
        order += indices
    back = sorted(range(len(order)), key=order.__getitem__)
    return pa.concat_batches(parts).take(pa.array(back, pa.int64()))
