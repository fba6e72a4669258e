"""Ranks beyond what all workers promise (`../test_workers.py`): in the annotator, and how often they start."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.protocol import Task
from exfm.augment.annotate.workers.ranks.workers import Patience, RankPlace, RankWorkers, Told

LONG_S = 60.0


@pytest.fixture
def start(plant: Any) -> Iterator[Callable[..., RankWorkers]]:
    """`start(ranks, wait_s)` over the plant's snapshots."""
    if find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    made: list[RankWorkers] = []

    def begin(world: int, wait_s: float = LONG_S) -> RankWorkers:
        made.append(RankWorkers(plant.folder / "snapshots", RankPlace(world, wait_s)))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def tasks_of(plant: Any, sizes: list[int]) -> list[Task]:
    """Random rows for the plant's teacher."""
    draw, schema = np.random.default_rng(0), plant.world.source.schema
    counts = np.array([feature.rows for feature in schema.ordered])
    columns = plant.snapshots.load("first").counters
    rows = [np.cumsum(counts) - counts + draw.integers(0, counts, (size, len(counts))) for size in sizes]
    return [Task("first", each, draw.normal(size=(len(each), columns)).astype("f4"), "int4") for each in rows]


def test_the_annotator_annotates_each_example_once_across_a_death_and_a_change(
    plant: Any, start: Callable[..., RankWorkers], publish: Callable[..., Snapshots]
) -> None:
    plant.join()
    plant.workers = workers = start(2)
    annotator = plant.open()
    annotator.step()
    os.kill(workers.pids[0], signal.SIGKILL)
    annotator.step()
    publish(plant.world.source, "second", 1)
    plant.until_taken_over(annotator, "second")
    plant.drain(annotator)
    annotator.close()
    keys = [bytes(key) for part in plant.parts() for key in part.key]
    assert sorted(keys) == sorted(each.key for each in plant.world.impressions)
    assert workers.restarts == 1


def test_rows_that_no_rank_has_reach_none(plant: Any) -> None:
    told, (asked,) = Told(plant.snapshots), tasks_of(plant, [5])
    orders = told.orders(asked, 3)
    assert [len(each.part.rows) for each in orders] == [2, 2, 1]
    assert {each.rounds for each in orders} == {1}
    asked.rows[3, 1] = asked.rows[3, 0]
    with pytest.raises(PoisonError, match="outside its feature's range"):
        told.orders(asked, 3)
    with pytest.raises(SnapshotError, match="'nobody': there is no"):
        told.orders(Task("nobody", asked.rows, asked.counters, "int4"), 3)


def test_after_many_deaths_in_a_row_there_are_pauses() -> None:
    now_s = [0.0]
    patience = Patience(lambda: now_s[0])
    for _ in range(Patience.ROW):
        assert not patience.refusal
        patience.ended("rank 0 was killed")
    assert patience.refusal == "ended 24 times in a row, at last because rank 0 was killed; the next try is in 30 s"
    now_s[0] = Patience.PAUSE_S
    assert not patience.refusal
    patience.ended("rank 0 was killed")
    assert patience.refusal
    patience.worked()
    assert not patience.refusal
    assert patience.ends == Patience.ROW + 1


def test_a_url_says_how_long_ranks_wait() -> None:
    assert RankPlace.parse("2?wait_s=7.5") == RankPlace(2, 7.5)
    assert str(RankPlace.parse("12")) == "ranks:12"


def test_a_table_on_disk_is_refused() -> None:
    snapshot, workers = SimpleNamespace(name="monday", on_disk=True), RankWorkers.__new__(RankWorkers)
    with pytest.raises(SnapshotError, match="'monday' has its table on disk, not over ranks: use local:N"):
        workers.check(cast(Snapshot, snapshot))
