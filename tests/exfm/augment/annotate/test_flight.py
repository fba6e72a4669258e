"""Trouble on the way through the teacher: rows die of what they hold, and of nothing else."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.augment.annotate.forward import Annotations, ForwardError, annotate
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, WorkersUnavailableError
from exfm.distill.stream import encode


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


class Reloading(InlineWorkers):
    """A poisonous row ends it, and starting again takes longer than anybody waits."""

    def __init__(self, folder: Path, poison: int) -> None:
        super().__init__(folder)
        self.poison, self.deaths, self.held = poison, 0, list[tuple[Task, Future[Annotations]]]()

    def submit(self, task: Task) -> "Future[Annotations]":
        self.held.append((task, Future()))
        return self.held[-1][1]

    def start(self) -> None:
        """Be ready, and answer until it dies again."""
        while self.held:
            task, future = self.held.pop(0)
            if (task.rows[:, 0] == self.poison).any():
                self.deaths += 1
                future.set_exception(WorkerDiedError("killed"))
                return
            future.set_result(super().submit(task).result())


def test_a_poisonous_row_is_found_though_every_start_takes_longer_than_a_step(plant: Any) -> None:
    plant.join(0, 90)
    users = encode(plant.world.source.examples, plant.world.source.schema)["user"][:90, 0]
    poison, times = next((int(user), n) for user, n in zip(*np.unique(users, return_counts=True), strict=True) if n < 4)
    plant.workers = workers = Reloading(plant.folder / "snapshots", poison)
    annotator = plant.open(options=replace(plant.options, wait_s=0.001))
    for _ in range(200):
        try:
            if settled := annotator.step():
                break
        except WorkersUnavailableError:
            workers.start()
    annotator.close()
    assert settled == 90
    assert annotator.last.dead == times
    assert workers.deaths < 12 * times
