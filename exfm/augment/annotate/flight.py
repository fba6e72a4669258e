"""A batch on its way through the teacher: tried again where a worker died, taken apart where a row is poison.

A row is dead if it fails for what it holds, or if its worker dies of it while others pass. Where nothing passes, or the
forward pass fails for another reason, such as memory, no row is at fault: the batch waits for better times. How far it
came is kept meanwhile: workers may take longer to start again than a step waits for them.
"""

import logging
from concurrent.futures import Future

from exfm.augment.annotate.batches import Prepared
from exfm.augment.annotate.forward import Annotations, ForwardError, join, nothing
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.rescue import Question, Rescue
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, Workers

log = logging.getLogger(__name__)


class Flight:
    """Submitted when made; `land` waits for it."""

    def __init__(self, prepared: Prepared, snapshot: Snapshot, workers: Workers, options: AnnotateOptions) -> None:
        self.prepared, self.snapshot = prepared, snapshot
        self._workers, self._options = workers, options
        self._landing, self._deaths = False, 0
        self._whole = self._ask(0, len(prepared))
        self._rescue: Rescue | None = None

    def land(self) -> tuple[Prepared, Annotations]:
        """The rows that could be annotated, with what was said of them; the others are among the dead.

        Raises:
            SnapshotError, ForwardError, WorkerDiedError: for no row's sake; the next call asks the workers again.
            WorkersUnavailableError: nobody answers in time, or at all; the next call waits, or asks, again.
        """
        if not self._landing:
            self._landing = True
            self._whole.renew()
        if self._rescue is None:
            if (made := self._passed()) is not None:
                return self.prepared, made
            self._rescue = Rescue(len(self.prepared), self._ask)
        try:
            good, bad = self._rescue.finish()
        except WorkerDiedError:
            self._rescue, self._deaths = None, 0
            raise
        none = nothing(0, len(self.snapshot.tasks), self.snapshot.dimension, self._options.codec)
        return self.prepared.without(bad), join([none, *good])

    def _passed(self) -> Annotations | None:
        """What is said of the whole batch; None: it is to be taken apart."""
        rows, tries = len(self.prepared), self._options.tries
        while self._deaths < tries:
            try:
                return self._whole.answer()
            except WorkerDiedError as error:
                self._deaths += 1
                log.warning("%s with %d rows, try %d of %d", error, rows, self._deaths, tries)
            except (PoisonError, ForwardError) as error:
                log.warning("a batch of %d rows is taken apart: %s", rows, error)
                break
        return None

    def _ask(self, start: int, stop: int) -> Question:
        part = self.prepared.part(start, stop)
        task = Task(self.snapshot.name, part.rows, part.counters, self._options.codec)

        def submit() -> "Future[Annotations]":
            return self._workers.submit(task)

        return Question(submit, stop - start, self._options.wait_s)
