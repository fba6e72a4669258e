"""A batch on its way through the teacher: tried again where a worker died, taken apart where a row is poison.

A row is dead if it fails for what it holds, or if its worker dies of it while others pass. Where nothing passes, or the
forward pass fails for another reason, such as memory, no row is at fault: the batch waits for better times.
"""

import logging
from concurrent.futures import Future

from exfm.augment.annotate.batches import Prepared
from exfm.augment.annotate.forward import Annotations, ForwardError, join, nothing
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.augment.annotate.workers import Task, WorkerDiedError, Workers
from exfm.features.embeddings import Codec

log = logging.getLogger(__name__)


class Flight:
    """Submitted when made; `land` waits for it."""

    def __init__(self, prepared: Prepared, snapshot: Snapshot, workers: Workers, codec: Codec, tries: int) -> None:
        self.prepared, self.snapshot = prepared, snapshot
        self._workers, self._codec, self._tries = workers, codec, tries
        self._future = self._submit(prepared)

    def land(self) -> tuple[Prepared, Annotations]:
        """The rows that could be annotated, with what was said of them; the others are among the dead.

        Raises:
            SnapshotError, ForwardError, WorkerDiedError: for no row's sake; the next call asks the workers again.
        """
        if self._future.done() and isinstance(self._future.exception(), SnapshotError | ForwardError | WorkerDiedError):
            self._future = self._submit(self.prepared)
        for trial in range(1, self._tries + 1):
            try:
                return self.prepared, self._future.result()
            except WorkerDiedError as error:
                log.warning("%s with %d rows, try %d of %d", error, len(self.prepared), trial, self._tries)
                self._future = self._submit(self.prepared)
            except PoisonError as error:
                log.warning("a batch of %d rows fails and is taken apart: %s", len(self.prepared), error)
                break
            except ForwardError as error:
                log.warning("a batch of %d rows is taken apart: %s", len(self.prepared), error)
                break
        return self._rescue()

    def _rescue(self) -> tuple[Prepared, Annotations]:
        good = [nothing(0, len(self.snapshot.tasks), self.snapshot.dimension, self._codec)]
        bad: list[tuple[int, str]] = []
        died: list[WorkerDiedError] = []

        def visit(start: int, stop: int) -> None:
            try:
                good.append(self._submit(self.prepared.part(start, stop)).result())
            except (PoisonError, WorkerDiedError, ForwardError) as error:
                if stop - start == 1:
                    if isinstance(error, ForwardError):
                        raise
                    bad.append((start, str(error)))
                    if isinstance(error, WorkerDiedError):
                        died.append(error)
                else:
                    middle = (start + stop) // 2
                    visit(start, middle)
                    visit(middle, stop)

        if len(self.prepared):
            visit(0, len(self.prepared))
        if len(self.prepared) > 1 and len(died) == len(self.prepared):
            raise died[0]
        return self.prepared.without(bad), join(good)

    def _submit(self, prepared: Prepared) -> "Future[Annotations]":
        return self._workers.submit(Task(self.snapshot.name, prepared.rows, prepared.counters, self._codec))
