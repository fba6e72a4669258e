"""Kill -9 of frontend, joiner, annotator and store at random instants under load, and the books afterwards.

The frontend is a whole one, which reads histories too, asked over gRPC by a caller that nobody kills.

An embedded store dies with its writer, amid an update, or is lost; other engines are killed in their turn.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.asynchrony import held
from bench.asynchrony.embedded_store import SCHEME, EmbeddedStore
from bench.asynchrony.processes import CLEAN, CODES, JOIN, LOOKUPS, Engine, Processes, environment, where_of
from bench.asynchrony.teacher import publish
from exfm.augment.accounts import accounts
from exfm.augment.join import example
from exfm.augment.join.joiner import Joiner
from exfm.augment.places import Places
from exfm.data.annotated import StreamReader
from exfm.data.commits import COMMITS
from exfm.data.simulator import SCHEMA_FILE
from exfm.events import outcome
from exfm.events.log import EventLog
from exfm.features.history import unpack
from exfm.features.schema import Schema
from serving.features.store import opener

_WORKS_S = 30.0
FAULTS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
"""Codes that neither a frontend's death nor a machine with too much to do explains."""


@dataclass(frozen=True)
class KillReport:
    """The books after all rounds.

    Attributes:
        rounds: how often something was killed.
        lost_outcomes: acknowledged, but neither in the log nor in a label nor routed as late.
        duplicates: rows of the stream whose impression another row has.
        unaccounted: impressions and outcomes that are in the log, by key and by number, but in no fate; or whose fates
            don't add up.
        logged: impressions that the log itself holds.
        trained: rows in the stream.
        acknowledged: outcomes.
        killed: how often each process was.
        store_wrong: users of whose last events the store has not exactly those that the stream has.
        failed: rankings that a frontend which was there did not make, for a fault of its own.
        lookups: of histories, by how they ended, of the frontend that lived last.
        store_behind: how often an embedded store that was killed had less than the stream, and
        store_lost: how often it had to come back from nothing.
        books: see `exfm.augment.accounts`.
    """

    rounds: int
    lost_outcomes: int
    duplicates: int
    unaccounted: int
    logged: int
    trained: int
    acknowledged: int
    killed: dict[str, int]
    store_wrong: int
    failed: int
    lookups: dict[str, int]
    store_behind: int
    store_lost: int
    books: dict[str, Any] = field(repr=False)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def kill_rounds(
    folder: Path,
    rounds: int,
    *,
    seed: int = 0,
    rps: float = 150.0,
    gap_s: float = 1.5,
    places: Places | None = None,
    engines: Mapping[str, Engine] | None = None,
    give_way: bool = True,
) -> KillReport:
    """Run the plane, kill something in each round, then drain it and do the books.

    Args:
        folder: empty; everything goes there.
        rounds: how many kills.
        seed: of victims and instants.
        rps: rankings per second that the frontend is asked for.
        gap_s: the mean time between kills.
        places: where the plane keeps its things; all in the folder unless given.
        engines: running servers that these lead to, killed in their turn too.
        give_way: joiner and annotator, with its worker, let everybody else go first, as they are meant to; on a machine
            that is never idle they would get nowhere.

    Raises:
        BenchError: a process died of anything else, or an embedded store could not be killed amid an update.
        TimeoutError: nothing comes through the plane.
    """
    places = places or Places.under(folder)
    schema = Schema.load(SCHEMA_FILE)
    publish(schema, places.snapshots)
    acks, gaps_s = folder / "acks", np.random.default_rng(seed).uniform(0.1, 2 * gap_s, rounds)
    processes = Processes(places, acks, folder, engines or {}, seed=seed, rps=rps, give_way=give_way)
    store = _embedded(places, processes, seed)
    try:
        killed = _killed(processes, gaps_s.tolist(), (places.stream / COMMITS, acks), engines or ())
        processes.demand()
    finally:
        processes.end()
    processes.demand(CLEAN)
    time.sleep(2.5)  # the longest window and the lateness
    drain = ["run", *where_of(places, folder), *JOIN, "--idle-s", "0.01", "--drain", "--workers", "local:0"]
    subprocess.run(
        [sys.executable, "-m", "exfm.commands.annotate", *drain], check=True, capture_output=True, env=environment()
    )
    return _books(places, schema, acks, killed, _found(folder, store))


def _killed(
    processes: Processes, gaps_s: Sequence[float], grow: tuple[Path, Path], servers: Collection[str]
) -> dict[str, int]:
    """Start all, kill one after each gap, and see that all work before and after; how often each was killed.

    Args:
        processes: none of them runs yet.
        gaps_s: before each kill.
        grow: the stream's commits, and what the caller notes, while all work.
        servers: a process that begins while one of these is away gives up, so none begins when they are killed.
    """
    killed = dict.fromkeys(processes.victims, 0)
    for name in processes.names:
        processes.start(name)
    _await_growth(processes, *grow)
    for number, gap_s in enumerate(gaps_s):
        time.sleep(gap_s)
        name = processes.victims[number % len(processes.victims)]
        if name in servers:
            _await_growth(processes, *grow)
        processes.demand()
        processes.kill(name)
        killed[name] += 1
        processes.start(name)
    _await_growth(processes, *grow)
    time.sleep(1.0)  # the frontend is asked for histories that the store has
    return killed


def _embedded(places: Places, processes: Processes, seed: int) -> EmbeddedStore | None:
    """An embedded store as one more victim; another one is among the engines."""
    if not places.store.startswith(SCHEME):
        return None
    store = EmbeddedStore(places, lambda: processes.kill("annotator"), lambda: processes.start("annotator"), seed)
    processes.engines["store"] = store
    return store


def _found(folder: Path, store: EmbeddedStore | None) -> dict[str, Any]:
    """What the caller and the last frontend have written down."""
    codes, lookups = Counter((folder / CODES).read_text().split()), folder / LOOKUPS
    return {
        "failed": sum(codes[each.name] for each in FAULTS),
        "lookups": json.loads(lookups.read_text()) if lookups.exists() else {},
        "store_behind": store.behind if store else 0,
        "store_lost": store.lost if store else 0,
    }


def _await_growth(processes: Processes, *files: Path) -> None:
    before, until_s = [_size(file) for file in files], time.monotonic() + _WORKS_S
    while idle := [file.name for file, size in zip(files, before, strict=True) if _size(file) <= size]:
        processes.demand()
        if time.monotonic() > until_s:
            raise TimeoutError(f"nothing came to {' and '.join(idle)} for {_WORKS_S:g} s")
        time.sleep(0.1)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _books(places: Places, schema: Schema, acks: Path, killed: dict[str, int], found: dict[str, Any]) -> KillReport:
    log, output = places.open_log(), places.open_output()
    joiner = Joiner(log, places.join, schema)
    reader = StreamReader(places.stream)
    try:
        books = accounts(log, output, joiner.accounts(), reader.commits())
        labels = _labels(reader)
        rows = sum(each.rows for each in reader.commits())
        lines = [line.split() for line in acks.read_text().splitlines(keepends=True) if line.endswith("\n")]
        told = {(bytes.fromhex(key), task, int(at)) for key, task, at in lines}
        logged, unaccounted = held.unaccounted(log, output, places.stream, books, labels)
        lost = told - _told(log, outcome.TOPIC)
        late = {(key, task) for key, task, _ in _told(output, example.LATE_TOPIC)}
        unlabelled = {
            (key, task)
            for key, task, _ in told
            if key in labels and labels[key][schema.tasks.index(task)] != 1 and (key, task) not in late
        }
        return KillReport(
            rounds=sum(killed.values()),
            lost_outcomes=len(lost) + len(unlabelled),
            duplicates=rows - len(labels),
            unaccounted=unaccounted,
            logged=logged,
            trained=rows,
            acknowledged=len(told),
            killed=killed,
            store_wrong=_store_wrong(reader, places),
            **found,
            books=books,
        )
    finally:
        joiner.close()
        output.close()
        log.close()


def _labels(reader: StreamReader) -> dict[bytes, Any]:
    tasks = reader.form.schema.tasks
    return {
        bytes(key): row
        for part in reader.read()
        for key, row in zip(part.key, np.stack([part.examples.labels[task] for task in tasks], 1), strict=True)
    }


def _told(log: EventLog, topic: str) -> set[tuple[bytes, str, int]]:
    records = held.records(log, topic)
    return {(row.key, row.task, row.time_ms) for record in records for row in outcome.decode(record.payload)}


def _store_wrong(reader: StreamReader, places: Places) -> int:
    store = opener(places.store)()
    times: dict[int, list[int]] = {}
    for part in reader.read():
        for user, at in zip(part.examples.user.tolist(), part.examples.time_ms.tolist(), strict=True):
            times.setdefault(user, []).append(at)
    wrong = 0
    for user, expected in times.items():
        value = store.get(user)
        found = [] if value is None else unpack(value).time_ms.tolist()
        wrong += found != sorted(expected)[-len(found) :] or len(found) != min(len(expected), 64)
    store.close()
    return wrong
