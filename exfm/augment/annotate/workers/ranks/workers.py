"""The teacher over ranks: processes of this machine that hold its tables together (torchrec, row-wise)."""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from exfm.augment.annotate.forward import PIECE, Annotations, ForwardError, join, line_of
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.count import parse_count
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, WorkersUnavailableError
from exfm.augment.annotate.workers.ranks.group import GroupError, RankGroup
from exfm.augment.annotate.workers.ranks.rank import Order
from exfm.events.urls import UrlError
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded.extra import INSTALL, ShardingError
from exfm.models.sharded.ranks import parts_of

log = logging.getLogger(__name__)

WAIT_S = 300.0


@dataclass(frozen=True)
class RankPlace:
    """A parsed URL: how many ranks, and how long they wait for one another, and for their shards."""

    count: int
    wait_s: float = WAIT_S

    @classmethod
    def parse(cls, rest: str) -> "RankPlace":
        """The place behind `ranks:`; `UrlError` if it is none."""
        try:
            count, wait_s = parse_count(rest, "wait_s", WAIT_S)
        except ValueError:
            count, wait_s = 0, WAIT_S
        if not count:
            raise UrlError(f"workers: {f'ranks:{rest}'!r} is not ranks:N or ranks:N?wait_s=SECONDS, N ranks, 1 to 9999")
        return cls(count, wait_s)

    def __str__(self) -> str:
        return f"ranks:{self.count}"


class Patience:
    """How often a group may end in a row: then one more try after each pause.

    Args:
        clock: monotonic seconds.
    """

    ROW, PAUSE_S = 24, 30.0
    """A poisonous row in a batch of 65,536 is found by 19 deaths in a row."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last_s = clock, -math.inf
        self.ends, self.row, self._why = 0, 0, ""

    def ended(self, why: str) -> None:
        """A group has ended, and why."""
        self.ends, self.row, self._why, self._last_s = self.ends + 1, self.row + 1, why, self._clock()

    def worked(self) -> None:
        """A batch came through."""
        self.row = 0

    @property
    def refusal(self) -> str:
        """Why there is no other group now; empty if there may be one."""
        rest_s = self._last_s + self.PAUSE_S - self._clock()
        if self.row < self.ROW or rest_s <= 0:
            return ""
        return f"ended {self.row} times in a row, at last because {self._why}; the next try is in {rest_s:.0f} s"


class RankWorkers:
    """N processes of this machine, one thread each, that share one batch at a time; they end and start again together.

    Each takes an even part of the batch through the dense layers, and has an even part of the rows of each table. One
    snapshot is held at a time: all change together, between two batches.

    Args:
        folder: of the snapshots.
        place: how many, and how patient.

    Raises:
        ShardingError: torchrec does not work here.
        WorkersUnavailableError: they don't start.
    """

    depth = 2
    """One at work, one that waits."""

    def __init__(self, folder: Path, place: RankPlace) -> None:
        self._folder, self._place = folder, place
        self._told = Told(Snapshots(folder))
        self._patience, self._closed, self._lock = Patience(), False, threading.Lock()
        self._group: RankGroup | None = None
        self._started()
        self._one = ThreadPoolExecutor(1, "exfm-ranks")

    @property
    def pids(self) -> list[int]:
        """The ranks' process ids, the first rank's first."""
        return self._group.pids if self._group else []

    @property
    def restarts(self) -> int:
        """How often the group had to end."""
        return self._patience.ends

    def check(self, snapshot: Snapshot) -> None:
        if snapshot.on_disk:
            raise SnapshotError(f"snapshot {snapshot.name!r} has its table on disk, not over ranks: use local:N")

    def submit(self, task: Task) -> "Future[Annotations]":
        return self._one.submit(self._annotate, task)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._group:
            self._group.end()
        self._one.shutdown(wait=True, cancel_futures=True)

    def _annotate(self, task: Task) -> Annotations:
        orders = self._told.orders(task, self._place.count)
        group = self._started()
        try:
            made = join(group.ask(orders))
        except GroupError as error:
            self._patience.ended(str(error))
            raise WorkerDiedError(f"{self._place}: {error}") from error
        except (SnapshotError, ForwardError) as error:
            self._patience.ended(str(error))
            raise
        self._patience.worked()
        return made

    def _started(self) -> RankGroup:
        """The group, another one if it has ended."""
        if self._group is not None and self._group.alive:
            return self._group
        if refusal := self._patience.refusal:
            raise WorkersUnavailableError(f"{self._place}: {refusal}")
        try:
            with self._lock:
                if self._closed:
                    raise WorkersUnavailableError(f"{self._place}: closed")
                self._group = RankGroup(self._folder, self._place.count, self._place.wait_s)
        except (GroupError, ForwardError, OSError) as error:
            self._patience.ended(line_of(error))
            raise WorkersUnavailableError(f"{self._place}: does not start: {line_of(error)}") from error
        return self._group


class Told:
    """What the snapshots in use say of themselves; makes orders of tasks."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._known: dict[str, Checkpoint] = {}

    def orders(self, task: Task, world: int) -> list[Order]:
        """Each rank's; `SnapshotError`, or `PoisonError` for rows that no rank has: one that failed would lose step."""
        teacher = self._of(task.snapshot)
        counts = np.array([feature.rows for feature in teacher.schema.ordered])
        own = task.rows - (np.cumsum(counts) - counts)
        if ((own < 0) | (own >= counts)).any():
            raise PoisonError("the teacher fails on these rows: a table row is outside its feature's range")
        parts = parts_of(len(task.rows), world)
        rounds = -(-(parts[0].stop - parts[0].start) // PIECE)
        return [Order(replace(task, rows=task.rows[p], counters=task.counters[p]), rounds) for p in parts]

    def _of(self, name: str) -> Checkpoint:
        if name not in self._known:
            while len(self._known) > 1:
                del self._known[next(iter(self._known))]
            self._known[name] = replace(self._snapshots.described(name), state={})
        return self._known[name]


def open_ranks(rest: str, folder: Path) -> RankWorkers:
    """The workers behind `ranks:N`; `UrlError` for another form, or without torchrec."""
    place = RankPlace.parse(rest)
    if find_spec("torchrec") is None:
        raise UrlError(f"{place} needs torchrec; {INSTALL}")
    try:
        return RankWorkers(folder, place)
    except ShardingError as error:
        raise UrlError(f"{place}: {error}") from error
