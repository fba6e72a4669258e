"""A batch that the teacher does not take whole: taken apart until each row is known, over as many calls as it takes."""

from collections.abc import Callable
from concurrent.futures import Future, wait

from exfm.augment.annotate.forward import Annotations, ForwardError
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import SnapshotError
from exfm.augment.annotate.workers.protocol import WorkerDiedError, WorkersUnavailableError

AGAIN = (SnapshotError, ForwardError, WorkerDiedError, WorkersUnavailableError)
"""What the same rows may pass at the next try."""


class Question:
    """Rows that the workers are asked about: who gives up waiting may go on later, and each answer is told once.

    Args:
        ask: submits them; called at once, and again after each answer that was told.
        rows: how many.
        wait_s: how long to wait at a time.
    """

    def __init__(self, ask: Callable[[], "Future[Annotations]"], rows: int, wait_s: float) -> None:
        self._ask, self._rows, self._wait_s = ask, rows, wait_s
        self._future: Future[Annotations] | None = ask()

    def renew(self) -> None:
        """Ask again where it has failed already: of something else, such as a batch that has ended the same worker."""
        if self._future is not None and self._future.done() and isinstance(self._future.exception(), AGAIN):
            self._future = self._ask()

    def answer(self) -> Annotations:
        """What is said of the rows.

        Raises:
            WorkersUnavailableError: nothing in time, and the next call waits on; or it is what the workers said.
            Exception: what else the workers said.
        """
        future = self._future = self._future or self._ask()
        wait([future], self._wait_s)
        if not future.done():
            raise WorkersUnavailableError(f"no answer for {self._rows} rows within {self._wait_s:g} s")
        self._future = None
        return future.result()


class Rescue:
    """A batch taken apart.

    A row whose worker dies of it alone is asked about once more after all others: the times may have been bad.

    Args:
        rows: of the batch.
        ask: a question about those from a place to another one.
    """

    def __init__(self, rows: int, ask: Callable[[int, int], Question]) -> None:
        self._rows, self._ask = rows, ask
        self._left = [(0, rows)] if rows else []
        self._question: Question | None = None
        self._good: dict[int, Annotations] = {}
        self._bad: list[tuple[int, str]] = []
        self._suspects: dict[int, WorkerDiedError] = {}
        self._again = False

    def finish(self) -> tuple[list[Annotations], list[tuple[int, str]]]:
        """The good rows' annotations in their order, and the bad rows' places with what was wrong.

        Raises:
            SnapshotError, ForwardError, WorkersUnavailableError: for no row's sake; the next call goes on from there.
            WorkerDiedError: at each row, so it is not the rows'; this rescue has failed.
        """
        while self._left:
            self._visit(*self._left[-1])
            if not self._left and not self._again:
                self._again = True
                if len(self._suspects) == self._rows > 1:
                    raise self._suspects[0]
                self._left = [(row, row + 1) for row in self._suspects]
        return [self._good[start] for start in sorted(self._good)], self._bad

    def _visit(self, start: int, stop: int) -> None:
        halves: list[tuple[int, int]] = []
        self._question = self._question or self._ask(start, stop)
        try:
            self._good[start] = self._question.answer()
        except (PoisonError, WorkerDiedError, ForwardError) as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                halves = [(middle, stop), (start, middle)]
            elif isinstance(error, ForwardError):
                raise
            elif isinstance(error, WorkerDiedError) and not self._again:
                self._suspects[start] = error
            else:
                self._bad.append((start, str(error)))
        self._question = None
        self._left[-1:] = halves
