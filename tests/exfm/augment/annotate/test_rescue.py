"""A batch that is taken apart: which rows are bad, in which order the others come, and that no progress is lost."""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from exfm.augment.annotate.forward import Annotations, ForwardError
from exfm.augment.annotate.rescue import Question, Rescue
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.workers.protocol import WorkerDiedError, WorkersUnavailableError

Verdict = Callable[[range], Exception | None]


class Bench:
    """Answers with the rows' own numbers, but where `verdict` says what is wrong."""

    def __init__(self, rows: int, verdict: Verdict) -> None:
        self.asked, self.verdict = list[range](), verdict
        self.rescue = Rescue(rows, lambda start, stop: Question(lambda: self.submit(start, stop), stop - start, 0.01))

    def submit(self, start: int, stop: int) -> "Future[Annotations]":
        rows, future = range(start, stop), Future[Annotations]()
        self.asked.append(rows)
        if error := self.verdict(rows):
            future.set_exception(error)
        else:
            future.set_result(Annotations(np.array(rows, "f4")[:, None], np.zeros((len(rows), 1), np.uint8)))
        return future

    def finish(self) -> tuple[list[int], list[int]]:
        """Numbers of the good rows and of the bad ones."""
        good, bad = self.rescue.finish()
        return [int(row) for each in good for row in each.probability[:, 0]], [row for row, _ in bad]


def test_bad_rows_are_found_and_the_others_keep_their_order() -> None:
    wrong: dict[int, Exception] = {2: PoisonError("x"), 5: WorkerDiedError("killed"), 11: PoisonError("y")}
    bench = Bench(12, lambda rows: next((wrong[row] for row in rows if row in wrong), None))
    good, bad = bench.finish()
    assert (good, sorted(bad)) == ([0, 1, 3, 4, 6, 7, 8, 9, 10], sorted(wrong))
    assert bench.asked[-1] == range(5, 6)


def test_rows_that_died_while_nothing_passed_are_asked_about_again() -> None:
    deaths = [WorkerDiedError("killed")] * 8  # enough for some rows alone
    bench = Bench(16, lambda _: deaths.pop() if deaths else None)
    assert bench.finish() == (list(range(16)), [])
    assert bench.asked[-3:] == [range(2, 3), range(1, 2), range(1)]


def test_where_all_rows_die_none_is_bad() -> None:
    bench = Bench(4, lambda _: WorkerDiedError("killed"))
    with pytest.raises(WorkerDiedError):
        bench.finish()


@pytest.mark.parametrize("error", [ForwardError("full"), WorkersUnavailableError("no room")])
def test_it_goes_on_where_it_was(error: Exception) -> None:
    troubles = [error] * 3
    bench = Bench(8, lambda rows: PoisonError("x") if 6 in rows else troubles.pop() if troubles and 7 in rows else None)
    for _ in range(3):
        with pytest.raises(type(error)):
            bench.finish()
    assert bench.finish() == ([0, 1, 2, 3, 4, 5, 7], [6])
    assert bench.asked.count(range(4)) == 1
    assert bench.asked.count(range(7, 8)) == 4


def test_nothing_needs_no_rescue() -> None:
    assert Bench(0, lambda _: None).finish() == ([], [])
