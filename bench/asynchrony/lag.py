"""How old a row is when training and serving can have it: from the impression log to stream and store, by row."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.asynchrony.feeder import Fed
from bench.asynchrony.processes import environment
from bench.overload.plant import BenchError
from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import Snapshots
from exfm.augment.annotate.workers.protocol import Workers
from exfm.augment.join.joiner import Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.places import Places
from exfm.augment.service import AnnotatePart, JoinPart, ServiceOptions, serve
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.data.annotated import StreamReader

WINDOW_S, LATENESS_S, LINGER_S = 0.1, 0.1, 0.25
LEAST_SHARE = 0.95
"""Of the rate that was meant."""
SPANS = (
    "a row, from its time_ms, at which it was due in serving's log, through its batch, the impression log on the disk, "
    "the attribution window and the lateness (lag_window_s together, and no less than that), the join, the wait for a "
    "batch, annotation and the stream's commit, until the online store has it"
)


@dataclass(frozen=True)
class Load:
    """What is fed.

    Attributes:
        rows: of the simulator, again and again.
        rate: rows per second.
        seconds: for so long.
    """

    rows: int
    rate: float
    seconds: float


class Settled:
    """When a commit was in the stream and in the store; the annotating part's `settled`."""

    def __init__(self, store: LmdbStore) -> None:
        self._store, self._noted = store, 0
        self.at_ms: dict[int, int] = {}

    def __call__(self, _: int) -> None:
        """Something was settled: note what the store now has."""
        now_ms, position = time.time_ns() // 1_000_000, self._store.position()
        self.at_ms |= dict.fromkeys(range(self._noted + 1, position + 1), now_ms)
        self._noted = position


def measure(
    folder: Path, snapshots: Snapshots, workers: Workers, batch: int, load: Load, *, feeder: "subprocess.Popen[str]"
) -> dict[str, Any]:
    """Join and annotate as `exfm-annotate run` does what `feeding` logs meanwhile; keys of `annotate`."""
    places = Places.under(folder)
    options = AnnotateOptions(batch=batch, linger_s=LINGER_S)
    joining = JoinOptions(window_s=WINDOW_S, lateness_s=LATENESS_S, idle_s=float("inf"))
    folder.mkdir()
    with ExitStack() as stack:
        log, output = (
            stack.enter_context(closing(places.open_log())),
            stack.enter_context(closing(places.open_output())),
        )
        store = stack.enter_context(closing(LmdbStore(folder / "store")))
        joiner = Joiner(log, places.join, snapshots.described(snapshots.current()).schema, joining)
        stack.callback(joiner.close)
        annotator = Annotator(output, places.stream, store, snapshots, workers, options=options)
        stack.callback(annotator.close)
        settled = Settled(store)
        fed = _run([JoinPart(joiner, log), AnnotatePart(annotator, settled)], places, load, feeder)
    lags_s = lags(StreamReader(places.stream), settled.at_ms, fed, load.rate)
    return {
        "lag_p99_s": float(np.quantile(lags_s, 0.99)),
        "lag_p50_s": float(np.quantile(lags_s, 0.5)),
        "lag_spans": SPANS,
        "lag_window_s": WINDOW_S + LATENESS_S,
        "lag_linger_s": LINGER_S,
        "lag_rows": len(lags_s),
        "lag_at_examples_per_s": fed.rate,
    }


@contextmanager
def feeding() -> Iterator["subprocess.Popen[str]"]:
    """What will feed the log, as a process that waits for its orders, at the priority that this one has now."""
    command = [sys.executable, "-m", "bench.asynchrony.feeder"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    ) as feeder:
        try:
            yield feeder
        finally:
            feeder.kill()  # it has ended by itself, unless something went wrong here


def _run(parts: list[JoinPart | AnnotatePart], places: Places, load: Load, feeder: "subprocess.Popen[str]") -> Fed:
    stop, said = threading.Event(), list[str]()

    def listen() -> None:
        said.append(feeder.communicate(json.dumps({"url": places.log, **asdict(load)}))[0])
        stop.set()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        serve(parts, stop)
        serve(parts, threading.Event(), ServiceOptions(drain=True))
    finally:
        feeder.kill()
        listener.join()
    if feeder.returncode:
        raise BenchError("what feeds the log failed")
    return Fed(**json.loads(said[0]))


def lags(reader: StreamReader, settled_ms: Mapping[int, int], fed: Fed, rate: float) -> NDArray[np.float64]:
    """Seconds by row, of all rows that count.

    Args:
        reader: of the stream.
        settled_ms: by commit, when store and stream had it.
        fed: what came.
        rate: rows per second that were to come.

    Raises:
        BenchError: rows are missing, or came more slowly than they were to, so that what is there would flatter.
    """
    if fed.rate < LEAST_SHARE * rate:
        raise BenchError(f"{fed.rate:.1f} of {rate:.1f} rows a second were fed")
    made = [np.empty(0)]
    for part in reader.read():
        time_ms = part.examples.time_ms
        made.append((settled_ms[part.commit] - time_ms[time_ms <= fed.until_ms]) / 1e3)
    found = np.concatenate(made)
    if len(found) != fed.rows:
        raise BenchError(f"{len(found)} of {fed.rows} rows came through; the log dropped {fed.dropped}")
    return found
