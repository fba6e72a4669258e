"""How much of the teacher's bare forward pass is left once all around it is paid for, and the lag at half that rate."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.asynchrony import lag
from bench.asynchrony.teacher import publish
from bench.asynchrony.traffic import impressions, outcomes
from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.forward import Annotations, annotate
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import Snapshot, Snapshots
from exfm.augment.annotate.workers.local import LocalWorkers
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import Task
from exfm.augment.join import example
from exfm.augment.join.joiner import Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import impression, outcome
from exfm.events.log import BEGIN
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog

MODEL: dict[str, Any] = {"dimension": 32, "layers": 3, "fmb": 16, "lcb": 16, "rank": 24, "hidden": 512}
"""A teacher of about a tenth of a millisecond per row and core: still tiny beside a foundation model."""
BATCH = 4096


class Remembering:
    """Workers that keep the tasks that go through them."""

    def __init__(self, inner: LocalWorkers) -> None:
        self._inner = inner
        self.tasks: list[Task] = []

    @property
    def depth(self) -> int:
        return self._inner.depth

    def check(self, snapshot: Snapshot) -> None:
        self._inner.check(snapshot)

    def submit(self, task: Task) -> "Future[Annotations]":
        self.tasks.append(task)
        return self._inner.submit(task)

    def close(self) -> None:
        pass


def measure_yielding(folder: Path, rows: int, rounds: int, seconds: float) -> dict[str, Any]:
    """`measure` where the workers' priority holds, so that both sides run alike; for a process of its own."""
    torch.set_num_threads(1)
    with lag.feeding() as feeder:  # what is started after yielding yields, too
        yield_to_others()
        return _measured(folder, rows, rounds, seconds, feeder)


def measure(folder: Path, *, rows: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Interleaved rounds: the whole annotator with one worker process, and the forward pass alone on its batches.

    The forward pass includes the embedding lookup and runs in one thread on both sides; the annotator's own process,
    which reads, encodes and writes beside the worker, is a second one. `own_cpu_over_forwards` is its processor time
    over the forward pass's: what there is to pay where no second core is free.
    """
    with lag.feeding() as feeder:
        return _measured(folder, rows, rounds, seconds, feeder)


def _measured(folder: Path, rows: int, rounds: int, seconds: float, feeder: "subprocess.Popen[str]") -> dict[str, Any]:
    source = Source("simulator", *simulate(0, Scale(rows=rows)))
    snapshots = publish(source.schema, folder / "snapshots", **MODEL)
    payloads = _joined(source, folder)
    pool = LocalWorkers(folder / "snapshots", 1)
    try:
        workers = Remembering(pool)
        _annotated(folder, payloads, snapshots, workers)  # everything is loaded after that
        pairs = []
        for _ in range(rounds):
            workers.tasks.clear()
            whole = _annotated(folder, payloads, snapshots, workers)
            pairs.append((whole, _forward(snapshots, workers.tasks)))
        count = sum(number for number, _ in payloads)
        rate = count / median(whole.wall_s for whole, _ in pairs)
        delay = lag.measure(folder / "lag", snapshots, workers, BATCH, lag.Load(rows, rate / 2, seconds), feeder=feeder)
    finally:
        pool.close()
    return {
        "ratio_to_forward": median(forward.wall_s / whole.wall_s for whole, forward in pairs),
        "ratios": [forward.wall_s / whole.wall_s for whole, forward in pairs],
        "own_cpu_over_forwards": median(whole.cpu_s / forward.cpu_s for whole, forward in pairs),
        "examples_per_s": rate,
        "forward_examples_per_s": count / median(forward.wall_s for _, forward in pairs),
        **delay,
        "rows": count,
        "model": MODEL,
        "batch": BATCH,
        "cores": len(os.sched_getaffinity(0)),
    }


def _joined(source: Source, folder: Path) -> list[tuple[int, bytes]]:
    """What the join makes of a source: records of about 1,000 examples, with their counts."""
    path = folder / "made.sqlite"
    join(source, path)
    output = SqliteLog(path)
    made = [(record.count, record.payload) for record in output.read(example.TOPIC, BEGIN, 1 << 30)]
    output.close()
    return made


def join(source: Source, path: Path) -> None:
    """A joiner's file, as if the source had been served and logged."""
    log = MemoryLog()
    served = impressions(source, source.examples)
    told = list(outcomes(source.examples, served))
    log.append(outcome.TOPIC, outcome.encode(told), len(told), b"1")
    for at in range(0, len(served), 100):
        log.append(impression.TOPIC, impression.encode(served[at : at + 100]), 100, str(at).encode())
    joiner = Joiner(log, path, source.schema, JoinOptions(idle_s=float("inf")))
    while not joiner.step().idle:
        pass
    joiner.close()


@contextmanager
def _annotator(
    folder: Path, snapshots: Snapshots, workers: Remembering, options: AnnotateOptions
) -> Iterator[tuple[Annotator, SqliteLog]]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        output, store = SqliteLog(Path(place) / "join.sqlite"), LmdbStore(Path(place) / "store")
        annotator = Annotator(output, Path(place) / "stream", store, snapshots, workers, options=options)
        try:
            yield annotator, output
        finally:
            annotator.close()
            store.close()
            output.close()


@dataclass(frozen=True)
class Spent:
    """Wall time, and this process's own processor time."""

    wall_s: float
    cpu_s: float

    @classmethod
    def of(cls, work: Callable[[], None]) -> "Spent":
        """What some work takes."""
        began_s, before_s = time.perf_counter(), time.process_time()
        work()
        return cls(time.perf_counter() - began_s, time.process_time() - before_s)


def _annotated(folder: Path, payloads: list[tuple[int, bytes]], snapshots: Snapshots, workers: Remembering) -> Spent:
    options = AnnotateOptions(batch=BATCH, linger_s=0.0)
    with _annotator(folder, snapshots, workers, options) as (annotator, output):
        for count, payload in payloads:
            output.append(example.TOPIC, payload, count, os.urandom(16))

        def drain() -> None:
            while annotator.step():
                pass

        return Spent.of(drain)


def _forward(snapshots: Snapshots, tasks: list[Task]) -> Spent:
    snapshot = snapshots.load(snapshots.current())

    def run() -> None:
        for task in tasks:
            annotate(snapshot, task.rows, task.counters, task.codec)

    return Spent.of(run)
