"""Who may run the forward pass: a bounded number of workers that take batches and answer in futures."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exfm.augment.annotate.forward import Annotations
from exfm.augment.annotate.snapshots import Snapshot
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
