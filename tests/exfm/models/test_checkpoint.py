from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint, CheckpointError, Prior, load_checkpoint
from exfm.models.student import Student
from exfm.models.teacher import Teacher


@pytest.fixture
def student(schema: Schema) -> Checkpoint:
    mine = schema.for_vertical("buys")
    return Checkpoint(
        kind="student",
        schema=mine,
        tasks=mine.tasks,
        state=Student(mine, "dot", 8, {"width": 16}).state_dict(),
        vertical="buys",
        backbone="dot",
        options={"dimension": 8, "width": 16},
        quality={"auc": 0.7},
        lineage={"seed": 1, "data": "tiny"},
        prior=Prior(np.array([3, 9]), np.array([[0.1], [0.2]], np.float32), np.array([0.15], np.float32)),
        golden={"request_ids": np.array([[1, 2]]), "candidate_numbers": np.ones((4, 2), np.float32)},
    )


def test_a_student_survives_the_file(student: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "buys.pt"
    student.save(path)
    read = load_checkpoint(path)
    for name in ("kind", "schema", "tasks", "vertical", "backbone", "options", "quality", "lineage"):
        assert getattr(read, name) == getattr(student, name)
    assert read.schema.digest == student.schema.digest
    assert read.prior is not None
    assert student.prior is not None
    np.testing.assert_array_equal(read.prior.ad, student.prior.ad)
    assert read.golden["candidate_numbers"].dtype == np.float32
    built = read.build_student()
    assert not built.training
    assert torch.equal(built.table.weight, student.state["table.weight"])
    assert [each.name for each in path.parent.iterdir()] == ["buys.pt"]


def test_a_teacher_survives_the_file(schema: Schema, tmp_path: Path) -> None:
    options = {"counters": 4, "layers": 1}
    teacher = Teacher(schema, ("click", "like"), 4, layers=1)
    path = tmp_path / "teacher.pt"
    Checkpoint("teacher", schema, ("click", "like"), teacher.state_dict(), options=options).save(path)
    read = load_checkpoint(path)
    assert isinstance(read.build(), Teacher)
    with pytest.raises(CheckpointError, match="got a teacher's"):
        read.build_student()


def test_weights_that_do_not_fit_are_refused(student: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"buys.*size mismatch"):
        replace(student, options={"dimension": 4}).build()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "format 99"), ({"kind": "pupil"}, "'pupil'"), ({"schema": {"nam": 1}}, "unknown key 'nam'")],
)
def test_a_file_of_another_kind_is_refused(
    student: Checkpoint, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.pt"
    student.save(path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(CheckpointError, match=rf"x\.pt.*{message}"):
        load_checkpoint(path)


def test_a_file_with_a_missing_entry_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="lacks 'golden'"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_a_file_that_torch_cannot_read_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")
