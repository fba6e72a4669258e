from dataclasses import replace

import numpy as np
import pytest
import torch

from exfm.distill.config import TrainConfig
from exfm.distill.learners import LeakError, StudentLearner, TeacherLearner, base_rate, pieces
from exfm.features.schema import Schema
from exfm.models.backbone import ModelError

NAN = np.nan


def rows(schema: Schema, count: int, features: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.random.default_rng(count).integers(0, schema.rows, (count, features))


def test_base_rate_ignores_unknown_labels_and_is_never_certain() -> None:
    rate = base_rate(torch.tensor([[1.0, NAN, 0.0], [1.0, NAN, 0.0], [0.0, NAN, 0.0]]))
    torch.testing.assert_close(rate, torch.tensor([2.5 / 4, 0.5, 0.125]))


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (50, 1), (74, 1), (76, 2), (500, 10)])
def test_pieces_are_about_the_size_asked(count: int, expected: int) -> None:
    assert pieces(count, 50) == expected


def test_a_teacher_refuses_rows_that_it_has_learned(schema: Schema, config: TrainConfig) -> None:
    teacher = TeacherLearner(schema, ("click",), 2, config.teacher, seed=0, batch=10)
    seen, past = rows(schema, 20, 6), np.zeros((20, 2), np.float32)
    teacher.annotate(0, seen, past)
    teacher.learn(seen, past, np.ones((20, 1), np.float32))
    assert (teacher.learned, teacher.snapshots) == (20, 1)
    with pytest.raises(LeakError, match="has learned 20 rows"):
        teacher.annotate(19, seen, past)
    teacher.annotate(20, seen, past)


def test_a_teachers_unknown_option_is_named(schema: Schema, config: TrainConfig) -> None:
    options = replace(config.teacher, model={"lyers": 1})
    with pytest.raises(ModelError, match=r"teacher.*'lyers'"):
        TeacherLearner(schema, ("click",), 2, options, seed=0, batch=10)


def test_a_student_predicts_each_batch_before_it_learns_it(schema: Schema, config: TrainConfig) -> None:
    request, candidate = rows(schema, 100, 3), rows(schema, 100, 3)
    ones, teacher = np.ones((100, 2), np.float32), np.full((100, 2), 0.5, np.float32)
    made = []
    for labels in (ones, np.where(np.arange(100)[:, None] >= 50, 0, ones).astype(np.float32)):
        learner = StudentLearner(schema, config.student, config.distill, seed=0, batch=25)
        made.append(learner.stream(request, candidate, labels, teacher))
    differs = np.flatnonzero((made[0] != made[1]).any(1))
    assert differs[0] == 75
    assert made[0][-25:].mean() > made[0][:25].mean()


def test_a_student_without_rows_is_left_alone(schema: Schema, config: TrainConfig) -> None:
    learner = StudentLearner(schema, config.student, config.distill, seed=0, batch=25)
    before = learner.state()
    nothing = np.empty((0, 2), np.float32)
    assert learner.stream(rows(schema, 0, 3), rows(schema, 0, 3), nothing, nothing).shape == (0, 2)
    assert all(torch.equal(value, learner.state()[name]) for name, value in before.items())


def test_without_annotations_a_distilled_student_learns_as_one_without_a_teacher(
    schema: Schema, config: TrainConfig
) -> None:
    request, candidate = rows(schema, 100, 3), rows(schema, 100, 3)
    labels, nothing = np.random.default_rng(0).integers(0, 2, (100, 2)).astype("f4"), np.full((100, 2), NAN, "f4")
    made = [
        StudentLearner(schema, config.student, distill, seed=0, batch=25).stream(request, candidate, labels, nothing)
        for distill in (config.distill, None)
    ]
    np.testing.assert_allclose(made[0], made[1], rtol=1e-6)


def test_the_state_is_the_students_alone_and_no_alias(schema: Schema, config: TrainConfig) -> None:
    learner = StudentLearner(schema, config.student, config.distill, seed=0, batch=25)
    state = learner.state()
    assert set(state) == set(learner.model.state_dict())
    assert not any("on_teacher" in name or "on_adapter" in name or "bend" in name for name in state)
    state["table.weight"].zero_()
    assert learner.model.table.weight.abs().sum() > 0
