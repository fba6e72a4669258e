"""Workers that are processes of this machine, at low priority."""

import ctypes
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from exfm.augment.annotate.forward import Annotations
from exfm.augment.annotate.snapshots import Snapshot, Snapshots
from exfm.augment.annotate.workers.giving_way import GivingWay
from exfm.augment.annotate.workers.inline import Models, refuse_shards
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError


class LocalWorkers:
    """N processes of this machine, one thread each, that yield to everybody else; dead ones are replaced.

    Args:
        folder: of the snapshots.
        count: of the processes.
        give_way_s: they run only where nobody else has run for so long; 0: whenever a processor is free.
    """

    def __init__(self, folder: Path, count: int, give_way_s: float = 0.0) -> None:
        self._folder, self._count = folder, count
        self._way = GivingWay(give_way_s) if give_way_s else None
        self._pool = self._start()
        self.restarts = 0

    @property
    def depth(self) -> int:
        return 2 * self._count

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return list(self._pool._processes or ())

    def check(self, snapshot: Snapshot) -> None:
        refuse_shards(snapshot)

    def submit(self, task: Task) -> "Future[Annotations]":
        try:
            inner = self._pool.submit(_work, task)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._start()
            self.restarts += 1
            inner = self._pool.submit(_work, task)
        if self._way:
            self._way.watch(self.pids)
        outer: Future[Annotations] = Future()
        inner.add_done_callback(lambda done: _hand_on(done, outer))
        return outer

    def close(self) -> None:
        if self._way:
            self._way.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        words = (str(self._folder), self._way is not None)
        return ProcessPoolExecutor(self._count, context, initializer=_begin, initargs=words)


_DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG: the signal that comes when the thread that started this process ends; see prctl(2)."""
_models: Models | None = None


def _begin(folder: str, may_be_stopped: bool) -> None:
    global _models  # noqa: PLW0603  # a worker process has one set of models
    yield_to_others(own_session=True)
    end_with_parent()
    if may_be_stopped:  # then no thread of its own can see to that
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    torch.set_num_threads(1)
    _models = Models(Snapshots(Path(folder)).load)


def end_with_parent() -> None:
    """End this process when its parent does; it would wait for work for ever."""
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> Annotations:
    assert _models is not None
    return _models.annotate(task)


def _hand_on(done: "Future[Annotations]", outer: "Future[Annotations]") -> None:
    if done.cancelled():
        outer.set_exception(WorkerDiedError("the task was given up"))
        return
    error = done.exception()
    if error is None:
        outer.set_result(done.result())
    elif isinstance(error, BrokenProcessPool):
        outer.set_exception(WorkerDiedError("a worker process ended"))
    else:
        outer.set_exception(error)
