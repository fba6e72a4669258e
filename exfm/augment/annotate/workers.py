"""Who runs the forward pass: this process, or processes of their own at low priority."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.augment.annotate.forward import Annotations, annotate
from exfm.augment.annotate.priority import yield_to_others
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.events.extras import lazily
from exfm.events.urls import UrlError, open_url
from exfm.features.embeddings import Codec


class WorkerDiedError(Exception):
    """A worker ended in the middle of its work; the work may be given to another one."""


class WorkersUnavailableError(Exception):
    """Nobody takes work now, whatever it is; the same work may be given again later."""


@dataclass(frozen=True)
class Task:
    """A batch to annotate: the snapshot's name, table rows int64 [N, F], counters float32 [N, C], the codec."""

    snapshot: str
    rows: NDArray[np.int64]
    counters: NDArray[np.float32]
    codec: Codec


class Workers(Protocol):
    """A bounded number of workers. A task's future raises `PoisonError` or an error that is no row's fault.

    Those are `ForwardError`, `SnapshotError`, `WorkerDiedError` and `WorkersUnavailableError`; `submit` itself raises
    none of them.
    """

    @property
    def depth(self) -> int:
        """How many tasks should be in flight to keep them all busy."""

    def check(self, snapshot: Snapshot) -> None:
        """Raise `SnapshotError` if they can never annotate with it."""

    def submit(self, task: Task) -> "Future[Annotations]":
        """Annotate a batch; may be called again for a task whose worker died."""

    def close(self) -> None:
        """End the workers; what is in flight is given up."""


class InlineWorkers:
    """No workers: the work is done in `submit`."""

    depth = 1

    def __init__(self, folder: Path) -> None:
        self._models = Models(Snapshots(folder).load)

    def check(self, snapshot: Snapshot) -> None:
        refuse_shards(snapshot)

    def submit(self, task: Task) -> "Future[Annotations]":
        future: Future[Annotations] = Future()
        try:
            future.set_result(self._models.annotate(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


class LocalWorkers:
    """N processes of this machine, one thread each, that yield to everybody else; dead ones are replaced."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
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
        outer: Future[Annotations] = Future()
        inner.add_done_callback(lambda done: _hand_on(done, outer))
        return outer

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        return ProcessPoolExecutor(self._count, context, initializer=_begin, initargs=(str(self._folder),))


class Models:
    """The snapshots in use: the current one, and the last one while batches of it are still coming.

    Args:
        load: makes a snapshot of its name.
    """

    def __init__(self, load: Callable[[str], Snapshot]) -> None:
        self._load = load
        self._loaded: dict[str, Snapshot] = {}

    def annotate(self, task: Task) -> Annotations:
        """A task's answer; `PoisonError`, or what `load` raises."""
        if task.snapshot not in self._loaded:
            while len(self._loaded) > 1:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[task.snapshot] = self._load(task.snapshot)
        return annotate(self._loaded[task.snapshot], task.rows, task.counters, task.codec)


_models: Models | None = None


def _begin(folder: str) -> None:
    global _models  # noqa: PLW0603  # a worker process has one set of models
    yield_to_others(own_session=True)
    end_with_parent()
    torch.set_num_threads(1)
    _models = Models(Snapshots(Path(folder)).load)


def end_with_parent() -> None:
    """End this process when its parent does; it would wait for work for ever."""
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def refuse_shards(snapshot: Snapshot) -> None:
    """`SnapshotError` if its table lies in shards, which one process can't read."""
    if snapshot.in_shards:
        raise SnapshotError(f"snapshot {snapshot.name!r} has its table in shards: use ranks:N")


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


def _local(rest: str, folder: Path) -> Workers:
    if not rest.isdecimal():
        raise UrlError(f"workers: 'local:{rest}' does not say how many; local:2 does")
    return LocalWorkers(folder, int(rest)) if int(rest) else InlineWorkers(folder)


BACKENDS: dict[str, Callable[[str, Path], Workers]] = {
    "local": _local,
    "ranks": lazily("ranks", "exfm.augment.annotate.ranks.workers", "open_ranks"),
    "ray": lazily("ray", "exfm.augment.annotate.ray_workers", "open_ray"),
}


def open_workers(url: str, snapshots: Path) -> Workers:
    """The workers behind `local:N`, 0 meaning this process, `ranks:N[?wait_s=S]`, `ray:N` or `ray://host:port/N`.

    Raises:
        UrlError: the scheme is unknown, its library is not installed, or the rest of the URL is wrong.
        WorkersUnavailableError: they don't start now.
    """
    return open_url(url, "workers", {name: partial(_bind, make, snapshots) for name, make in BACKENDS.items()})


def _bind(make: Callable[[str, Path], Workers], snapshots: Path, rest: str) -> Workers:
    return make(rest, snapshots)
