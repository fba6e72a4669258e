"""Real worker processes: they answer as this process would, yield to others, and may be killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.augment.annotate.workers import InlineWorkers, LocalWorkers, Task, WorkerDiedError, open_workers
from exfm.data.source import Source
from exfm.events.urls import UrlError


def task(source: Source, snapshots: Snapshots, rows: int = 20, name: str = "first") -> Task:
    snapshot = snapshots.load("first")
    draw = np.random.default_rng(0)
    table_rows = draw.integers(0, source.schema.rows, (rows, len(source.schema.ordered)))
    return Task(name, table_rows, draw.normal(size=(rows, snapshot.counters)).astype(np.float32), "int4")


def test_processes_answer_as_this_one_does_and_are_replaced_when_killed(
    tiny: Callable[..., Source], publish: Callable[..., Snapshots], tmp_path: Path
) -> None:
    source = tiny(10)
    snapshots = publish(source)
    asked = task(source, snapshots)
    here = InlineWorkers(tmp_path / "snapshots").submit(asked).result()
    workers = open_workers("local:1", tmp_path / "snapshots")
    assert isinstance(workers, LocalWorkers)
    try:
        there = workers.submit(asked).result(timeout=60)
        np.testing.assert_allclose(there.probability, here.probability, atol=1e-6)
        np.testing.assert_array_equal(there.codes, here.codes)
        (pid,) = workers.pids
        assert psutil.Process(pid).nice() == 19
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        with pytest.raises(SnapshotError, match="nobody"):
            workers.submit(task(source, snapshots, name="nobody")).result(timeout=60)
        with pytest.raises(PoisonError):
            workers.submit(Task("first", asked.rows + 10**9, asked.counters, "int4")).result(timeout=60)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            _until_it_fails(workers, asked)
        np.testing.assert_array_equal(workers.submit(asked).result(timeout=60).codes, here.codes)
        assert workers.restarts == 1
    finally:
        workers.close()


def _until_it_fails(workers: LocalWorkers, asked: Task) -> None:
    """The pool notices a death in its own time."""
    for _ in range(1000):
        workers.submit(asked).result(timeout=60)


def test_an_answer_that_is_not_finite_is_poison(
    tiny: Callable[..., Source], publish: Callable[..., Snapshots], tmp_path: Path
) -> None:
    source = tiny(10)
    asked = task(source, publish(source))
    asked.counters[3] = np.nan
    with pytest.raises(PoisonError, match="not finite"):
        InlineWorkers(tmp_path / "snapshots").submit(asked).result()


def test_an_empty_batch_has_an_empty_answer(
    tiny: Callable[..., Source], publish: Callable[..., Snapshots], tmp_path: Path
) -> None:
    source = tiny(10)
    made = InlineWorkers(tmp_path / "snapshots").submit(task(source, publish(source), rows=0)).result()
    assert made.probability.shape == (0, 2)


@pytest.mark.parametrize("url", ["local:", "local:many", "ray://x", "local:-1"])
def test_a_url_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UrlError, match="workers"):
        open_workers(url, tmp_path)


def test_none_means_this_process(tmp_path: Path) -> None:
    made: Any = open_workers("local:0", tmp_path)
    assert isinstance(made, InlineWorkers)
