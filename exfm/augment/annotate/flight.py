"""A batch on its way through the teacher: tried again where a worker died, taken apart where a row is poison."""

import logging
from concurrent.futures import Future

from exfm.augment.annotate.batches import Prepared
from exfm.augment.annotate.forward import Annotations, join, nothing
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.augment.annotate.workers import Task, WorkerDiedError, Workers, WorkersUnavailableError

log = logging.getLogger(__name__)


class Flight:
    """Submitted when made; `land` waits for it."""

    def __init__(self, prepared: Prepared, snapshot: Snapshot, workers: Workers, options: AnnotateOptions) -> None:
        self.prepared, self.snapshot = prepared, snapshot
        self._workers, self._options = workers, options
        self._future = self._submit(prepared)

    def land(self) -> tuple[Prepared, Annotations]:
        """The rows that could be annotated, with what was said of them; the others are among the dead.

        Raises:
            SnapshotError: the workers can't load the snapshot; the next call asks them again.
            WorkersUnavailableError: nobody answers in time, or at all; the next call waits, or asks, again.
        """
        if self._future.done() and isinstance(self._future.exception(), SnapshotError | WorkersUnavailableError):
            self._future = self._submit(self.prepared)
        for trial in range(1, self._options.tries + 1):
            try:
                return self.prepared, self._future.result(self._options.wait_s)
            except TimeoutError as error:
                why = f"no answer for {len(self.prepared)} rows within {self._options.wait_s:g} s"
                raise WorkersUnavailableError(why) from error
            except WorkerDiedError as error:
                log.warning("%s with %d rows, try %d of %d", error, len(self.prepared), trial, self._options.tries)
                self._future = self._submit(self.prepared)
            except PoisonError as error:
                log.warning("a batch of %d rows fails and is taken apart: %s", len(self.prepared), error)
                break
        return self._rescue()

    def _rescue(self) -> tuple[Prepared, Annotations]:
        good = [nothing(0, len(self.snapshot.tasks), self.snapshot.dimension, self._options.codec)]
        bad: list[tuple[int, str]] = []

        def visit(start: int, stop: int) -> None:
            try:
                good.append(self._submit(self.prepared.part(start, stop)).result())
            except (PoisonError, WorkerDiedError) as error:
                if stop - start == 1:
                    bad.append((start, str(error)))
                else:
                    middle = (start + stop) // 2
                    visit(start, middle)
                    visit(middle, stop)

        if len(self.prepared):
            visit(0, len(self.prepared))
        return self.prepared.without(bad), join(good)

    def _submit(self, prepared: Prepared) -> "Future[Annotations]":
        return self._workers.submit(Task(self.snapshot.name, prepared.rows, prepared.counters, self._options.codec))
