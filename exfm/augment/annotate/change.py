"""A change of snapshots: the next one is loaded, and its counters are fed, beside the loop that goes on annotating."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.data.annotated import StreamReader
from exfm.data.errors import DataError
from exfm.data.examples import Examples
from exfm.distill.counters import width_of
from exfm.distill.past import CounterPlan, StreamCounters
from exfm.distill.stream import encode
from exfm.features.schema import Schema

_FEW = 2
"""Commits that the loop may read itself when it takes over."""


@dataclass(frozen=True)
class Recipe:
    """What a teacher's counters are made by; teachers with the same recipe and schema share them."""

    tasks: tuple[str, ...]
    signals: int
    plan: CounterPlan
    keep_ms: int

    @classmethod
    def of(cls, snapshot: Snapshot, options: AnnotateOptions) -> "Recipe":
        """As the snapshot was trained; how many signals it expects follows from how many columns.

        Raises:
            SnapshotError: its settings make other columns.
        """
        plan, tasks = snapshot.plan(options.config), snapshot.tasks
        signals, odd = divmod(snapshot.counters - width_of(plan.options, len(tasks), 0), len(plan.options.keys))
        if signals < 0 or odd:
            raise SnapshotError(
                f"snapshot {snapshot.name!r} reads {snapshot.counters} counters; its settings make others"
            )
        return cls(tasks, signals, plan, options.keep_ms)

    def counters(self, schema: Schema) -> StreamCounters:
        """Empty ones."""
        return StreamCounters(schema, self.tasks, self.signals, self.plan, keep_ms=self.keep_ms)


@dataclass(frozen=True)
class Successor:
    """A snapshot that can take over.

    Attributes:
        snapshot: itself.
        recipe: of its counters.
        counters: know the past and the stream's rows below `row`; None: those in use serve it as they are.
    """

    snapshot: Snapshot
    recipe: Recipe
    counters: StreamCounters | None = None
    row: int = 0


class Change:
    """Work on a thread of its own; `stop` tells it that nobody waits for it any more."""

    def __init__(self, work: Callable[[threading.Event], Successor]) -> None:
        self._future: Future[Successor] = Future()
        self._stop = threading.Event()
        self._work = work
        threading.Thread(target=self._run, name="exfm-snapshot", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self._future.done()

    def result(self) -> Successor:
        """What came of it; `SnapshotError` if the snapshot can't be used now."""
        return self._future.result()

    def stop(self) -> None:
        """Give it up."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work(self._stop))
        except BaseException as error:  # whatever it is, who asks for the result must not wait for ever
            self._future.set_exception(error)


def feed(counters: StreamCounters, schema: Schema, examples: Examples) -> None:
    """Let later rows see these."""
    counters.add(examples, np.concatenate(list(encode(examples, schema).values()), 1))


def fed(
    recipe: Recipe, schema: Schema, past: Examples | None, stream: StreamReader, stop: threading.Event
) -> tuple[StreamCounters, int]:
    """Counters that know the past and the stream, but for a few commits at its end, and the row up to which they do.

    Raises:
        SnapshotError: the stream can't be read now, retention has been quicker, or nobody waits any more.
    """
    counters, row = recipe.counters(schema), 0
    if past is not None:
        feed(counters, schema, past)
    try:
        while True:
            read = 0
            for part in stream.read(row):
                if stop.is_set():
                    raise SnapshotError("the annotator has ended")
                feed(counters, schema, part.examples)
                row, read = part.first_row + len(part), read + 1
            if read <= _FEW:
                return counters, row
    except DataError as error:
        raise SnapshotError(f"the counters can't be made: {error}") from error
