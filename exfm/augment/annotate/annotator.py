"""The annotator: examples come from the join, go through the teacher once, and end in the stream and the online store.

The stream's commit holds the offset that it reaches, so a cut at any place repeats work but no row. The store follows
the stream.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from exfm.augment.annotate.batches import Prepared, Preparer
from exfm.augment.annotate.change import Change, Recipe, Successor, fed, feed
from exfm.augment.annotate.flight import Flight
from exfm.augment.annotate.follower import StoreFollower
from exfm.augment.annotate.forward import Annotations, nothing
from exfm.augment.annotate.intake import POSITION_MS, Intake, refuse_other
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.table import Spoken, by_user, events_of, table_of
from exfm.augment.annotate.workers.protocol import Workers
from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR
from exfm.augment.store.store import EmbeddingStore
from exfm.augment.stream.writer import StreamWriter
from exfm.data.annotated import StreamForm, StreamReader
from exfm.data.commits import Commit
from exfm.data.errors import DataError
from exfm.data.examples import Examples
from exfm.events.log import BEGIN, EventLog, LogUnavailableError

log = logging.getLogger(__name__)
_AT_ONCE = 4
"""Commits that the store gets between two batches, where it is behind."""


class Annotator:
    """One process annotates one join's output into one stream.

    Args:
        source: the join's output.
        folder: of the stream.
        store: the online store; None: no histories are kept.
        snapshots: where the teachers are; the current one is taken, and its successors.
        workers: who runs it.
        options: sizes and times.
        past: examples before the stream's, for the teacher's counters.
        clock: monotonic seconds.

    Attributes:
        snapshot: the teacher that annotates.
        lag_ms: of the last batch, from when its oldest row was joined until stream and store had it.

    Raises:
        SnapshotError: there is no current snapshot, or it can't be used here.
        StreamError: the stream belongs to another process, another schema or another join's output.
    """

    def __init__(
        self,
        source: EventLog,
        folder: Path,
        store: EmbeddingStore | None,
        snapshots: Snapshots,
        workers: Workers,
        *,
        options: AnnotateOptions | None = None,
        past: Examples | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._workers, self._snapshots = source, workers, snapshots
        self._options = options or AnnotateOptions()
        self._clock, self._looked_s = clock, clock()
        self.snapshot = snapshots.load(snapshots.current())
        workers.check(self.snapshot)
        self._form = StreamForm(self.snapshot.schema, self.snapshot.dimension, self._options.codec)
        self._recipe = Recipe.of(self.snapshot, self._options)  # refused before anything is opened
        self._stream = StreamWriter(folder, self._form)
        try:
            refuse_other(source, self.last, folder)
        except BaseException:
            self._stream.close()
            raise
        self._reader = StreamReader(folder)
        self._store, self._follower = store, StoreFollower(store, self._reader)
        self._past, self.lag_ms = past, 0
        self._flights: deque[Flight] = deque()
        self._change: Change | None = None
        counters, _ = fed(self._recipe, self.snapshot.schema, past, self._reader, threading.Event())
        self._preparer = Preparer(self.snapshot.schema, self.snapshot.table_schema, counters)
        self._intake = Intake(source, self.last.position, self._options.batch, self._options.linger_s)
        self._told = BEGIN
        self._tell()
        self._follower.catch_up(self.last)

    @property
    def last(self) -> Commit:
        """The stream's last commit."""
        return self._stream.last

    def step(self) -> int:
        """Keep the workers busy, and commit the oldest batch once it is done.

        Returns:
            How many rows were settled: in the stream or dead.

        Raises:
            LogUnavailableError, StreamError, SnapshotError, WorkersUnavailableError: nothing was settled; the same step
                may succeed later.
        """
        self._look_for_snapshot()
        if self._follower.behind:
            self._follower.catch_up(self.last, _AT_ONCE)
        while len(self._flights) < self._workers.depth:
            records = self._intake.take(eager=not self._flights)
            if not records:
                break
            self._flights.append(self._flight(self._preparer.prepare(records)))
        if not self._flights:
            self._tell()
            return 0
        flight = self._flights[0]
        try:
            landed = flight.land()
        except SnapshotError:
            if flight.snapshot is not self.snapshot:
                self._start_over()
            raise
        commit = self._commit(flight.snapshot, *landed)
        return commit.rows + commit.dead

    def drop_before(self, time_ms: int) -> int:
        """Retention of the stream and the store; how many rows of the stream went."""
        gone = 0
        try:
            if self._store is not None:
                self._store.expire(time_ms)
        finally:  # an outage of the one leaves the other's disk no fuller
            gone = self._stream.drop_before(time_ms)
        return gone

    def close(self) -> None:
        """Give up what is in flight, it will be read again; the source, store and workers are the caller's."""
        if self._change:
            self._change.stop()
        self._stream.close()

    def _commit(self, snapshot: Snapshot, done: Prepared, made: Annotations) -> Commit:
        # What a snapshot may have learned it must not annotate.
        said = done.examples.time_ms > snapshot.learned_until_ms
        silent = nothing(len(done), len(snapshot.tasks), snapshot.dimension, self._options.codec)
        made = replace(made, probability=np.where(said[:, None], made.probability, silent.probability))
        spoken = Spoken(snapshot, made, said)
        commit = self._stream.append(
            table_of(done.batch, done.examples, self._form.schema, spoken),
            done.position,
            snapshot=snapshot.id,
            dead=b"".join(each.line() for each in done.dead),
            dead_rows=sum(each.rows for each in done.dead),
            counts={"unsaid": int((~said).sum()), "lag_ms": done.lag_ms, POSITION_MS: done.position_ms},
        )
        self._flights.popleft()  # they are in the stream for good, whatever fails from here on
        events = events_of(done.batch, done.examples, spoken, self._options.codec)
        self._follower.keep(commit, by_user(done.examples.user, events))
        self.lag_ms = done.lag_ms
        try:
            self._tell()
        except LogUnavailableError as error:
            log.warning("the join hears later of commit %d: %s", commit.number, error)
        return commit

    def _tell(self) -> None:
        """Let the join's output know how far the stream is, if it doesn't."""
        if self._told != self.last.position:
            self._source.commit(ANNOTATOR, example.TOPIC, self.last.position)
            self._told = self.last.position

    def _look_for_snapshot(self) -> None:
        try:
            if self._change is not None and self._change.done:
                done, self._change = self._change, None
                self._take_over(done.result())
            now_s = self._clock()
            if self._change is not None or now_s - self._looked_s < self._options.swap_s:
                return
            self._looked_s = now_s
            name = self._snapshots.current()
            if name != self.snapshot.name:
                self._change = Change(partial(self._successor, name, self._recipe))
        except (SnapshotError, DataError) as error:
            log.warning("still annotating with %s: %s", self.snapshot.name, error)

    def _successor(self, name: str, recipe: Recipe, stop: threading.Event) -> Successor:
        """Load a snapshot, and make its counters where they are not those of `recipe`; on a thread of its own."""
        fresh = self._snapshots.load(name)
        self._workers.check(fresh)
        if fresh.schema.digest != self._form.schema.digest or fresh.dimension != self._form.dimension:
            raise SnapshotError(f"snapshot {fresh.name!r} has another schema or embedding; it needs its own stream")
        own = Recipe.of(fresh, self._options)
        if own == recipe:
            return Successor(fresh, own)
        return Successor(fresh, own, *fed(own, fresh.schema, self._past, StreamReader(self._reader.folder), stop))

    def _take_over(self, fresh: Successor) -> None:
        """Annotate with it from the next batch on; its counters get what they don't know yet."""
        if fresh.counters is not None:
            rows = (part.examples for part in self._reader.read(fresh.row))
            for examples in (*rows, *(flight.prepared.examples for flight in self._flights)):
                feed(fresh.counters, fresh.snapshot.schema, examples)
            self._preparer = Preparer(fresh.snapshot.schema, fresh.snapshot.table_schema, fresh.counters)
        else:
            self._preparer = self._preparer.reading(fresh.snapshot.table_schema)
        self.snapshot, self._recipe = fresh.snapshot, fresh.recipe

    def _start_over(self) -> None:
        """Give what is in flight to the current snapshot: the one that it was meant for can't be loaded."""
        for place, flight in enumerate(self._flights):
            if flight.snapshot is not self.snapshot:
                self._flights[place] = self._flight(self._preparer.again(flight.prepared))

    def _flight(self, prepared: Prepared) -> Flight:
        return Flight(prepared, self.snapshot, self._workers, self._options)
