"""A batch on its way through the teacher: tried again where a worker died, taken apart where a row is poison.

A row is dead if it fails for what it holds, or if its worker dies of it while others pass. Where nothing passes, or the
forward pass fails for another reason, such as memory, no row is at fault: the batch waits for better times.
"""

import logging
from concurrent.futures import Future

from exfm.augment.annotate.batches import Prepared
from exfm.augment.annotate.forward import Annotations, ForwardError, join, nothing
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.augment.annotate.workers import Task, WorkerDiedError, Workers, WorkersUnavailableError

log = logging.getLogger(__name__)

AGAIN = (SnapshotError, ForwardError, WorkerDiedError, WorkersUnavailableError)
"""What the same rows may pass at the next try."""


class Flight:
    """Submitted when made; `land` waits for it."""

    def __init__(self, prepared: Prepared, snapshot: Snapshot, workers: Workers, options: AnnotateOptions) -> None:
        self.prepared, self.snapshot = prepared, snapshot
        self._workers, self._options = workers, options
        self._future = self._submit(prepared)

    def land(self) -> tuple[Prepared, Annotations]:
        """The rows that could be annotated, with what was said of them; the others are among the dead.

        Raises:
            SnapshotError, ForwardError, WorkerDiedError: for no row's sake; the next call asks the workers again.
            WorkersUnavailableError: nobody answers in time, or at all; the next call waits, or asks, again.
        """
        if self._future.done() and isinstance(self._future.exception(), AGAIN):
            self._future = self._submit(self.prepared)
        for trial in range(1, self._options.tries + 1):
            try:
                return self.prepared, self._answer(self._future, len(self.prepared))
            except WorkerDiedError as error:
                log.warning("%s with %d rows, try %d of %d", error, len(self.prepared), trial, self._options.tries)
                self._future = self._submit(self.prepared)
            except PoisonError as error:
                log.warning("a batch of %d rows fails and is taken apart: %s", len(self.prepared), error)
                break
            except ForwardError as error:
                log.warning("a batch of %d rows is taken apart: %s", len(self.prepared), error)
                break
        return self._rescue()

    def _rescue(self) -> tuple[Prepared, Annotations]:
        good = [nothing(0, len(self.snapshot.tasks), self.snapshot.dimension, self._options.codec)]
        bad: list[tuple[int, str]] = []
        died: list[WorkerDiedError] = []

        def visit(start: int, stop: int) -> None:
            try:
                good.append(self._answer(self._submit(self.prepared.part(start, stop)), stop - start))
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

    def _answer(self, future: "Future[Annotations]", rows: int) -> Annotations:
        wait_s = self._options.wait_s
        try:
            return future.result(wait_s)
        except TimeoutError as error:
            raise WorkersUnavailableError(f"no answer for {rows} rows within {wait_s:g} s") from error

    def _submit(self, prepared: Prepared) -> "Future[Annotations]":
        return self._workers.submit(Task(self.snapshot.name, prepared.rows, prepared.counters, self._options.codec))
