"""What a forward pass is made of, counted by hand, and rates of this machine."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from exfm.augment.annotate.snapshots import Snapshot, Snapshots
from exfm.augment.planning import speed
from exfm.augment.planning.plan import Cluster
from exfm.augment.planning.speed import Machine, Work
from exfm.augment.planning.steps import Step
from exfm.data.source import Source
from exfm.models.dense import TokenMix
from exfm.models.embedding import EmbeddingTable


@pytest.fixture
def snapshot(tiny: Callable[..., Source], publish: Callable[..., Snapshots]) -> Snapshot:
    return publish(tiny(20)).load("first")


def test_a_size_is_what_the_model_holds(snapshot: Snapshot) -> None:
    size = speed.size_of(snapshot)
    assert isinstance(snapshot.model.table, EmbeddingTable)
    assert (size.rows, size.columns) == tuple(snapshot.model.table.weight.shape)
    assert size.features == len(snapshot.schema.ordered)
    assert size.dense_parameters == sum(p.numel() for p in snapshot.model.parameters()) - size.rows * size.columns


def test_products_are_counted_as_by_hand(snapshot: Snapshot) -> None:
    work = speed.work_of(snapshot)
    model: Any = snapshot.model
    dimension = 4
    linear = [each for each in model.modules() if type(each).__name__ == "Linear"]
    decoders = list(model.compressor.decoders) if model.compressor else []
    expected = sum(2.0 * each.in_features * each.out_features for each in linear if each not in decoders)
    for layer in model.stack:
        tokens, rank = layer.fmb.projection.shape
        expected += 2 * 2 * tokens * dimension * rank  # X^T Y, then X times it
        expected += (
            2
            * tokens
            * dimension
            * sum(len(each.weight) for each in (layer.lcb, layer.residual) if isinstance(each, TokenMix))
        )
    assert work.flops + work.batched_flops == pytest.approx(expected)
    assert work.batched_flops > 0
    assert 0 < work.peak_bytes < work.moved_bytes


def test_inputs_are_within_each_features_rows(snapshot: Snapshot) -> None:
    rows, counters = speed.inputs_of(snapshot, 500, 3)
    ends = np.cumsum([feature.rows for feature in snapshot.schema.ordered])
    assert (rows < ends).all()
    assert (rows[:, 1:] >= ends[:-1]).all()
    assert counters.shape == (500, snapshot.counters)


def test_a_machines_speed_adds_the_parts_up() -> None:
    work = Work(flops=1e6, batched_flops=2e6, moved_bytes=3e6, looked_up=10, peak_bytes=1)
    machine = Machine(flops=1e9, batched_flops=1e9, moved_bytes=1e9, looked_up_bytes=1e6)
    steps: list[Step] = []
    assert machine.computing_s(work, steps) == pytest.approx(1e-3 + 2e-3 + 3e-3)
    assert machine.lookup_s(work, 400, steps) == pytest.approx(4e-3)
    assert [step.value for step in steps] == pytest.approx([1e3, 2e3, 3e3, 4e3])


def test_rates_are_measured(snapshot: Snapshot) -> None:
    measured = speed.machine(speed.size_of(snapshot), seconds=0.05)
    assert all(rate > 1e6 for rate in vars(measured).values())
    made = speed.speed_here(snapshot, Cluster(1, 1e9), 8192, 0.05)
    assert made.examples_per_s == pytest.approx(1e6 / sum(step.value for step in made.how))
    assert made.examples_per_s > 100


def test_waiting_is_no_work() -> None:
    assert speed.timed(lambda: time.sleep(0.01), 0.03) < 0.005
