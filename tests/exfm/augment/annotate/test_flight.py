"""Trouble on the way through the teacher: rows die of what they hold, and of nothing else."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.augment.annotate.forward import Annotations, ForwardError, annotate
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.workers import InlineWorkers, Task, WorkerDiedError


class Troubled(InlineWorkers):
    """Fails for a reason that is not the rows', as long as it lasts; `most` rows pass anyhow."""

    def __init__(self, folder: Path, error: Exception, most: int = 0) -> None:
        super().__init__(folder)
        self.error, self.most, self.lasts = error, most, True

    def submit(self, task: Task) -> "Future[Annotations]":
        if not self.lasts or len(task.rows) <= self.most:
            return super().submit(task)
        future: Future[Annotations] = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize("error", [ForwardError("out of memory"), WorkerDiedError("killed")])
def test_where_no_row_is_at_fault_none_is_dead(plant: Any, error: Exception) -> None:
    plant.join(0, 90)
    plant.workers = workers = Troubled(plant.folder / "snapshots", error)
    annotator = plant.open()
    for _ in range(2):
        with pytest.raises(type(error)):
            annotator.step()
    workers.lasts = False
    assert plant.drain(annotator) == 90
    annotator.close()
    assert annotator.last.dead == 0
    assert sum(map(len, plant.parts())) == 90


def test_a_batch_too_large_for_memory_passes_in_parts(plant: Any) -> None:
    plant.join(0, 90)
    plant.workers = Troubled(plant.folder / "snapshots", ForwardError("out of memory"), most=30)
    annotator = plant.open()
    assert plant.drain(annotator) == 90
    annotator.close()
    assert sum(map(len, plant.parts())) == 90


def test_only_what_the_rows_hold_is_poison(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = plant.snapshots.load("first")
    rows = np.zeros((2, len(snapshot.schema.ordered)), np.int64)
    past = np.zeros((2, snapshot.counters), np.float32)
    for wrong in (-1, snapshot.schema.rows):
        rows[1, 0] = wrong
        with pytest.raises(PoisonError, match="the teacher fails on these rows"):
            annotate(snapshot, rows, past, "int4")

    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")

    monkeypatch.setattr(snapshot.model, "represent", full)
    with pytest.raises(ForwardError, match="can't allocate memory"):
        annotate(snapshot, np.zeros_like(rows), past, "int4")
