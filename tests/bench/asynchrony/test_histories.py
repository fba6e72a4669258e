"""The comparison of histories: nobody sees what it must not, and the control sees the same events."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.asynchrony.histories import ARMS, Annotated, annotated, histories
from bench.asynchrony.raw_history import OPTIONS, RawHistories, RawStudent
from exfm.data.histories import Histories
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.distill.config import load_config
from exfm.distill.stream import encode
from exfm.features.schema import HistorySpec


@pytest.fixture(scope="module")
def made() -> Annotated:
    source = Source("simulator", *simulate(0, Scale(rows=1500, days=2, users=40, ads=50)))
    return annotated(source, load_config("simulator", None, {"teacher": {"model": {"embedding": 32, "layers": 1}}}))


def test_the_teacher_says_nothing_of_what_it_has_learned(made: Annotated) -> None:
    assert 0 < made.start < len(made.source.examples)
    assert np.isnan(made.probability[: made.start]).all()
    assert not np.isnan(made.probability[made.start :]).any()
    assert not made.events.space[: made.start].any()
    assert made.events.space[made.start :].all()


def test_the_control_sees_the_ads_of_the_same_events(made: Annotated) -> None:
    examples, schema = made.source.examples, made.source.schema
    past = Histories(made.events, examples.user, examples.time_ms, HistorySpec(4, 32, 1000))
    ads = encode(examples, schema)["ad"]
    index = np.arange(len(examples))
    rows, known, age_s = np.split(RawHistories(past, ads, examples.time_ms).rows(index), [-8, -4], axis=1)
    seen = past.seen(index)
    np.testing.assert_array_equal(known, seen >= 0)
    row, place = np.nonzero(seen >= 0)
    assert len(row)
    np.testing.assert_array_equal(rows.reshape(len(index), 4, -1)[row, place], ads[seen[row, place]])
    np.testing.assert_array_equal(
        age_s[row, place], (examples.time_ms[row] - examples.time_ms[seen[row, place]]) // 1000
    )


def test_the_controls_student_learns_through_its_own_table(made: Annotated) -> None:
    schema = made.source.schema
    own = schema.for_vertical(schema.verticals[0].name)
    student = RawStudent(replace(own, history=HistorySpec(2, 32)), "dot", 8, {}, OPTIONS)
    width = len(own.side("ad"))
    history = torch.cat([torch.randint(0, own.rows, (1, 2 * width)), torch.tensor([[0, 1, 0, 60]])], 1)
    request = torch.zeros(1, len(own.side("user")) + len(own.side("context")), dtype=torch.int64)
    candidate, owner = torch.zeros(3, width, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    made_with = student(request, candidate, owner, history)
    made_with.sum().backward()
    gradient = student.table.weight.grad
    assert gradient is not None
    touched = gradient.coalesce().to_dense().abs().sum(1) > 0
    assert touched[history[0, width : 2 * width]].any()  # the event that is known
    history[0, :width] = 0  # the one that isn't counts for nothing
    assert torch.equal(student(request, candidate, owner, history), made_with)


def test_each_arm_has_its_figures(kuairand_parquet: Path) -> None:
    result = histories(kuairand_parquet, seeds=(0,))
    assert set(result) == {*ARMS, "about"}
    assert (result["about"]["simulated"], "warning" in result["about"]) == (False, False)
    for arm in ARMS:
        assert {run["vertical"] for run in result[arm]["seeds"]} == {"feed_click", "feed_long_view"}
        assert 0 < result[arm]["auc"] < 1
        assert result[arm]["ne"] > 0
    assert result["without"]["seeds"] != result["histories"]["seeds"]
