"""One process of several that hold a teacher together: takes orders from the annotator, answers for its part."""

import gc
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from exfm.augment.annotate.forward import PIECE, Annotations, ForwardError, annotate, join, line_of
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.local import end_with_parent
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import Task
from exfm.models.sharded.extra import ShardingError, require_torchrec
from exfm.models.sharded.ranks import Ranks, ranks_of_this_machine


@dataclass(frozen=True)
class Seat:
    """Which process of how many, where they meet, how long they wait for one another; where the snapshots are."""

    rank: int
    world: int
    meeting: Path
    wait_s: float
    snapshots: Path


@dataclass(frozen=True)
class Order:
    """A rank's part of a batch; all ranks call the model `rounds` times, whether or not they have rows for it."""

    part: Task
    rounds: int


@dataclass(frozen=True)
class Answer:
    """What came of an order, or the error that it met; that the ranks are here, if there was no order.

    Attributes:
        said: annotations.
        error: instead.
        ends: the ranks may have lost step, so this one ends, which those that wait for it notice.
    """

    said: Annotations | None = None
    error: Exception | None = None
    ends: bool = False


def run(seat: Seat, orders: Connection) -> None:
    """Answer once all ranks are here, and then each order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # for the annotator, which lets its batch land
    yield_to_others(own_session=True)
    end_with_parent()
    torch.set_num_threads(1)
    gc.freeze()  # what stays for good need not be looked through at each change of snapshots
    try:
        require_torchrec()
        with ranks_of_this_machine(seat.rank, seat.world, seat.meeting, seat.wait_s) as ranks:
            holder = Holder(Snapshots(seat.snapshots), ranks)
            orders.send(Answer())
            while True:
                orders.send(_answer(holder, orders.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the annotator has gone
        os._exit(0)
    except (ShardingError, SnapshotError, ForwardError) as error:
        _end(orders, error)
    except (RuntimeError, ValueError, OSError) as error:  # of torch.distributed
        _end(orders, ForwardError(f"the ranks don't come together: {line_of(error)}"))


def _end(orders: Connection, error: Exception) -> None:
    with suppress(OSError):
        orders.send(Answer(error=error, ends=True))
    os._exit(1)  # to leave the group in good order would be to wait for the others


def _answer(holder: "Holder", order: Order) -> Answer:
    try:
        return Answer(holder.annotate(order))
    except PoisonError as error:
        return Answer(error=error)


class Holder:
    """This rank's part of one snapshot at a time: a second one might not fit."""

    def __init__(self, snapshots: Snapshots, ranks: Ranks) -> None:
        self._snapshots, self._ranks = snapshots, ranks
        self._snapshot: Snapshot | None = None

    def annotate(self, order: Order) -> Annotations:
        """A collective.

        Raises:
            PoisonError: the ranks are in step.
            SnapshotError, ForwardError: they may not be; one that alone can't read would leave the others waiting.
        """
        snapshot, part, said = self._held(order.part.snapshot), order.part, []
        bad: PoisonError | None = None
        for place in range(order.rounds):
            rows = slice(place * PIECE, (place + 1) * PIECE)
            try:
                said.append(self._round(snapshot, part, rows))
            except PoisonError as error:
                bad = error  # the others go on, and need this rank's rows of the tables
        if bad is not None:
            raise bad
        return join(said) if said else annotate(snapshot, part.rows, part.counters, part.codec)

    def _round(self, snapshot: Snapshot, part: Task, rows: slice) -> Annotations:
        if len(part.rows[rows]):
            return annotate(snapshot, part.rows[rows], part.counters[rows], part.codec)
        starts = np.asarray(snapshot.model.table.starts.cpu())[None]
        made = annotate(snapshot, starts, np.zeros((1, snapshot.counters), np.float32), part.codec)
        return Annotations(made.probability[:0], made.codes[:0])

    def _held(self, name: str) -> Snapshot:
        if self._snapshot is None or self._snapshot.name != name:
            self._snapshot = None
            gc.collect()  # modules of torchrec refer to one another in circles
            self._snapshot = self._load(name)
        return self._snapshot

    def _load(self, name: str) -> Snapshot:
        from exfm.models.sharded import answering  # noqa: PLC0415  # imports torchrec

        told = self._snapshots.described(name)
        shards = self._snapshots.shards(name)
        try:
            if shards.is_dir():
                model = answering.from_shards(shards, self._ranks)
            else:
                model = answering.from_checkpoint(told, self._ranks)
        except ShardingError as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error
        except Exception as error:  # of torchrec and torch.distributed, which may be of any kind
            raise ForwardError(f"snapshot {name!r} can't be loaded: {line_of(error)}") from error
        return Snapshot.of(name, "", told, model)
