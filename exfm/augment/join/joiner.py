"""The join: impressions wait for their attribution window, then become examples, each exactly once.

A step reads from the log, then changes the state, writes its output and notes how far it has read, all in one
transaction, so it can be cut off anywhere.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from exfm.augment.join import example
from exfm.augment.join.known import Known
from exfm.augment.join.label import Labels
from exfm.augment.join.pick import gather, payload_of
from exfm.augment.join.reading import Place, Reading, next_after, read_on
from exfm.augment.join.state import JoinState, Waiting
from exfm.augment.join.windows import JoinOptions, Watermark
from exfm.events import impression, outcome, tables
from exfm.events.log import EventLog, LogUnavailableError, Record
from exfm.events.outcome import Outcome
from exfm.events.wire import EventError
from exfm.features.schema import Schema

CONSUMER = "join"
ANNOTATOR = "annotate"
"""The consumer of the join's output."""
_TOPICS = (impression.TOPIC, outcome.TOPIC)
"""In the order in which they must be read: what was told of an impression that is known is then known too."""
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

    Raises:
        SchemaError: a window is given for a task that the schema lacks.
        LogUnavailableError: the file can't be used.
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
        self._options = options or JoinOptions()
        self._options.check(schema)
        self._state = JoinState(path)
        self._schema = schema
        self._labels = Labels(schema, self._options)
        self._waits_ms = self._options.windows_ms(schema)
        self._horizon_ms = self._options.horizon_ms(schema)
        self._now_ms, self._clock = now_ms, clock
        self._busy_s, self._known = clock(), Known()

    def step(self) -> Step:
        """Read a bounded amount, emit what is ripe.

        Raises:
            LogUnavailableError: nothing was done; try again.
        """
        state, counts = self._state, Counter[str]()
        with state.transaction():
            if tables.lag(state.connection, ANNOTATOR, example.TOPIC).events > self._options.most_examples:
                return Step(0, 0, paused=True)
            places = {topic: state.place(topic) for topic in _TOPICS}
        # The log is read while nobody waits for the file. An outcome that comes after `now_ms` is not yet missed.
        now_ms, shown, told = self._now_ms(), *(self._read(topic, places[topic]) for topic in _TOPICS)
        end = self._log.end(outcome.TOPIC) if told.full else told.end
        with state.transaction():
            if places != {topic: state.place(topic) for topic in _TOPICS}:
                raise LogUnavailableError("another process joins into the same file")
            watermark = self._take_impressions(shown, Watermark(state.position(_WATERMARK)), counts)
            self._take_outcomes(told, counts)
            watermark = self._in_idle_times(watermark, shown.events + told.events, now_ms)
            known = self._known.after(told, end, watermark.at_ms)
            emitted = self._emit(known.at_ms, counts)
            counts["outcomes_orphan"] += state.forget(known.at_ms)
            state.move(_WATERMARK, watermark.at_ms)
            state.count(counts)
        self._known = known
        for topic, reading in zip(_TOPICS, (shown, told), strict=True):
            self._log.commit(CONSUMER, topic, reading.end)
        return Step(shown.events + told.events, emitted)

    def accounts(self) -> dict[str, int]:
        """The running counts, with what is pending: `impressions_read` is the sum of the impressions' other fates.

        `impressions_after` and `outcomes_after` are the offsets behind which the log is still to be read.
        """
        with self._state.transaction():
            places = {topic: self._state.place(topic) for topic in _TOPICS}
            sizes = {
                "impressions_pending": self._state.size("pending"),
                "outcomes_pending": self._state.size("outcomes"),
                "watermark_ms": self._state.position(_WATERMARK),
            }
            counts = self._state.counts()
        after = {f"{each}_after": next_after(self._log, CONSUMER, each, place) for each, place in places.items()}
        return {**counts, **sizes, **after}

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

    def _read(self, topic: str, place: Place) -> Reading:
        records = self._options.records * (1 if topic == impression.TOPIC else 4)
        return read_on(self._log, CONSUMER, topic, place, records)

    def _in_idle_times(self, watermark: Watermark, read: int, now_ms: int) -> Watermark:
        now_s = self._clock()
        if read:
            self._busy_s = now_s
            return watermark
        if now_s - self._busy_s < self._options.idle_s:
            return watermark
        return watermark.seen(now_ms, round(self._options.lateness_s * 1e3))

    def _take_impressions(self, reading: Reading, watermark: Watermark, counts: "Counter[str]") -> Watermark:
        counts["impressions_read"] += reading.events
        for record in reading.records:
            try:
                batch = impression.decode(record.payload)
            except EventError:
                counts["impressions_dead"] += record.count
                self._put(example.DEAD_TOPIC, record.payload, record.count)
            else:
                watermark = self._wait(batch, record, watermark, counts)
        self._state.reach(impression.TOPIC, reading)
        return watermark

    def _wait(self, batch: pa.RecordBatch, record: Record, watermark: Watermark, counts: "Counter[str]") -> Watermark:
        rows, number = [], self._state.fresh_batch()
        columns = (batch.column(name).to_pylist() for name in ("key", "vertical", "time_ms"))
        lateness_ms = round(self._options.lateness_s * 1e3)
        for place, (key, vertical, time_ms) in enumerate(zip(*columns, strict=True)):
            if vertical not in self._waits_ms:
                counts["impressions_dead"] += 1
                self._put(example.DEAD_TOPIC, payload_of(batch, place), 1)
            elif time_ms + self._horizon_ms < watermark.at_ms:
                counts["impressions_stale"] += 1
            else:
                rows.append(Waiting(key, time_ms + self._waits_ms[vertical], time_ms, number, place))
                watermark = watermark.seen(time_ms, lateness_ms, known_ms=record.appended_ms)
                counts["impressions_ahead"] += time_ms > record.appended_ms + lateness_ms
        fresh = self._state.wait(rows, record.payload)
        counts["impressions_duplicate"] += len(rows) - fresh
        return watermark

    def _take_outcomes(self, reading: Reading, counts: "Counter[str]") -> None:
        counts["outcomes_read"] += reading.events
        for record in reading.records:
            try:
                self._keep(outcome.decode(record.payload), counts)
            except EventError:
                counts["outcomes_dead"] += record.count
                self._put(example.DEAD_TOPIC, record.payload, record.count)
        self._state.reach(outcome.TOPIC, reading)

    def _keep(self, rows: list[Outcome], counts: "Counter[str]") -> None:
        known = [row for row in rows if row.task in self._labels.columns]
        counts["outcomes_unknown_task"] += len(rows) - len(known)
        joined = self._state.joined_among(row.key for row in known)
        early = [row for row in known if row.key not in joined]
        behind = [row for row in known if row.key in joined]
        late = [row for row in behind if self._state.tell(row)]
        self._route_late(late, counts)
        until_ms = [row.time_ms + self._labels.wait_ms(row.task) for row in early]
        again = len(behind) - len(late) + len(early) - self._state.add_outcomes(early, until_ms)
        counts["outcomes_duplicate"] += again

    def _emit(self, known_ms: int, counts: "Counter[str]") -> int:
        """Impressions whose window ended by then, for all that was told of them was read."""
        emitted = 0
        for _ in range(_EMITS):
            ripe = self._state.ripe(known_ms, self._options.batch)
            if not ripe:
                break
            labelled = self._labels.of(gather(ripe, self._state.payload), self._state.outcomes_of(ripe))
            self._route_late(labelled.late, counts)
            self._bury(labelled.before, counts)
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

    def _bury(self, rows: list[Outcome], counts: "Counter[str]") -> None:
        if rows:
            counts["outcomes_before"] += len(rows)
            self._put(example.DEAD_TOPIC, outcome.encode(rows), len(rows))

    def _put(self, topic: str, payload: bytes, count: int) -> None:
        tables.insert(self._state.connection, topic, payload, count, os.urandom(16))
