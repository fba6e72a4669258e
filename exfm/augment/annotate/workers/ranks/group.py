"""The annotator's side of its ranks: started together, asked together, ended together."""

import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from exfm.augment.annotate.forward import Annotations
from exfm.augment.annotate.snapshots import SnapshotError
from exfm.augment.annotate.workers.ranks.rank import Answer, Order, Seat, run

PRELOADED = ["__main__", "exfm.augment.annotate.workers.ranks.rank", "exfm.models.sharded.answering"]
"""By the process from which ranks are forked, so that they share it, and start again quickly."""
START_S, GRACE_S = 120.0, 1.0
"""How long ranks may take to start, and the others to answer once one has failed."""


class GroupError(Exception):
    """A rank ended or hangs, and so the group is no more; the message says which."""


@dataclass
class _Heard:
    """By rank: what it answered, or that its pipe has ended."""

    answers: dict[int, Answer] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def errors(self) -> list[Exception]:
        """What a rank can't read first; those that it leaves for that may say so sooner."""
        said = [each.error for each in self.answers.values() if each.error is not None]
        return sorted(said, key=lambda error: not isinstance(error, SnapshotError))


class RankGroup:
    """So many processes on this machine that hold a teacher together; nothing is left of them after `end`.

    Args:
        snapshots: where the teachers are.
        world: how many.
        wait_s: how long they wait for one another, and an answer may take.

    Raises:
        GroupError: they don't start.
        Exception: what the first rank said that could not start.
    """

    def __init__(self, snapshots: Path, world: int, wait_s: float) -> None:
        home = Path(tempfile.mkdtemp(prefix="exfm-ranks-"))
        self._wait_s = wait_s
        self._pipes: list[Connection[Any, Any]] = []
        self._processes: list[BaseProcess] = []
        # Before multiprocessing's own end, which would wait for the ranks.
        self._gone = threading.Event()
        self._end = Finalize(self, _end, (self._processes, home, self._gone), exitpriority=10)
        for rank in range(world):
            self._start(Seat(rank, world, home / "meeting", wait_s, snapshots))
        self._exchange([], START_S)

    @property
    def pids(self) -> list[int]:
        """The ranks' process ids."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._end.still_active()

    def ask(self, orders: list[Order]) -> list[Annotations]:
        """Every rank's answer to its order.

        Raises:
            GroupError: the group has ended, for a rank has, or hangs.
            Exception: the first error that a rank answered; see `alive`.
        """
        answers = self._exchange(orders, self._wait_s + GRACE_S)
        return [each.said for each in answers if each.said is not None]

    def end(self) -> None:
        """Kill the processes; may be called at any time, also while they are asked."""
        self._end()
        self._gone.wait()  # somebody else may be at it

    def _start(self, seat: Seat) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        mine, theirs = context.Pipe()
        process = context.Process(target=run, args=(seat, theirs), name=f"exfm-rank-{seat.rank}", daemon=True)
        process.start()
        theirs.close()
        self._processes.append(process)
        self._pipes.append(mine)

    def _exchange(self, orders: list[Order], within_s: float) -> list[Answer]:
        """Send and receive; a timer ends the group where that takes longer, whatever it is stuck in."""
        began_s, timer = time.monotonic(), threading.Timer(within_s, self.end)
        timer.daemon = True
        timer.start()
        try:
            with suppress(OSError):
                for pipe, order in zip(self._pipes, orders, strict=False):
                    pipe.send(order)
            heard = self._hear()
        finally:
            timer.cancel()
        heard.took_s = time.monotonic() - began_s
        self._refuse(heard)
        return [heard.answers[rank] for rank in range(len(self._pipes))]

    def _hear(self) -> _Heard:
        """Until all have answered or ended; only a little longer once one has."""
        heard, waiting = _Heard(), dict(enumerate(self._pipes))
        until_s: float | None = None
        while waiting and (ready := wait(list(waiting.values()), until_s and max(0.01, until_s - time.monotonic()))):
            for rank in [rank for rank, pipe in waiting.items() if pipe in ready]:
                try:
                    heard.answers[rank] = waiting.pop(rank).recv()
                except (EOFError, OSError):
                    heard.gone.append(rank)
                if until_s is None and (heard.gone or heard.answers[rank].ends):
                    until_s = time.monotonic() + GRACE_S
        return heard

    def _refuse(self, heard: _Heard) -> None:
        """Raise what went wrong, and end the group if it is not in step any more."""
        world, killed = len(self._pipes), not self.alive
        silent = [rank for rank in range(world) if rank not in heard.answers]
        how = _how(self._processes[heard.gone[0]]) if heard.gone and not killed else ""
        if silent or any(each.ends for each in heard.answers.values()):
            self.end()
        if how:
            raise GroupError(f"rank {heard.gone[0]} of {world} {how}")
        if silent and (killed or heard.took_s >= self._wait_s):
            names = ", ".join(map(str, silent))
            raise GroupError(f"no answer from rank {names} of {world} within {heard.took_s:.1f} s")
        if heard.errors:
            raise heard.errors[0]


def _how(process: BaseProcess) -> str:
    process.join(GRACE_S)
    code = process.exitcode
    return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"


def _end(processes: list[BaseProcess], home: Path, gone: threading.Event) -> None:
    try:
        for each in processes:
            each.kill()
        for each in processes:
            each.join()
        shutil.rmtree(home, ignore_errors=True)
    finally:
        gone.set()
