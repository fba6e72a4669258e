"""The forward pass in the process that asks for it, and the snapshots that such a process holds."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from exfm.augment.annotate.forward import Annotations, annotate
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.protocol import Task


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


def refuse_shards(snapshot: Snapshot) -> None:
    """`SnapshotError` if its table lies in shards, which one process can't read."""
    if snapshot.in_shards:
        raise SnapshotError(f"snapshot {snapshot.name!r} has its table in shards: use ranks:N")
