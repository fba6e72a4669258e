from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exfm.features.schema import HistorySpec, Schema
from exfm.models.backbone import BACKBONES, ModelError
from exfm.models.student import Student

NAMES = sorted(BACKBONES)


def trained_looking(schema: Schema, backbone: str) -> Student:
    """A student whose every weight matters, first-order ones included."""
    student = Student(schema, backbone)
    for parameter in student.parameters():
        nn.init.normal_(parameter, std=0.3)
    return student.eval()


def rows(schema: Schema, count: int, features: int) -> Tensor:
    return torch.randint(0, schema.rows, (count, features))


@pytest.mark.parametrize("backbone", NAMES)
def test_serving_requests_once_equals_replicating_them(schema: Schema, backbone: str) -> None:
    student = trained_looking(schema, backbone)
    request, candidate = rows(schema, 3, 3), rows(schema, 10, 3)
    owner = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2, 2])
    once = student(request, candidate, owner)
    replicated = student(request[owner], candidate, torch.arange(10))
    torch.testing.assert_close(once, replicated, rtol=1e-4, atol=1e-5)
    assert once.shape == (10, 2)
    assert once.std() > 0.01


@pytest.mark.parametrize("backbone", NAMES)
def test_request_side_runs_on_requests_not_on_candidates(
    schema: Schema, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, seen = trained_looking(schema, backbone), []
    inner = student.backbone.request

    def watched(embeddings: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(embeddings))
        return inner(embeddings)

    monkeypatch.setattr(student.backbone, "request", watched)
    student(rows(schema, 2, 3), rows(schema, 50, 3), torch.arange(50) % 2)
    assert seen == [2]


@pytest.mark.parametrize("backbone", NAMES)
def test_candidates_do_not_see_each_other(schema: Schema, backbone: str) -> None:
    student = trained_looking(schema, backbone)
    request, candidate = rows(schema, 1, 3), rows(schema, 6, 3)
    together = student(request, candidate, torch.zeros(6, dtype=torch.int64))
    alone = torch.cat([student(request, each[None], torch.zeros(1, dtype=torch.int64)) for each in candidate])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_an_untrained_student_answers_the_base_rate_it_was_given(schema: Schema) -> None:
    student = Student(schema)
    nn.init.zeros_(student.head.weight)
    student.start_at(torch.tensor([0.25, 0.01]))
    made = torch.sigmoid(student(rows(schema, 1, 3), rows(schema, 1, 3), torch.zeros(1, dtype=torch.int64)))
    torch.testing.assert_close(made, torch.tensor([[0.25, 0.01]]))


@pytest.mark.filterwarnings("ignore")  # the exporter's own, of no concern here
@pytest.mark.parametrize("backbone", NAMES)
def test_onnx_agrees_for_other_sizes_than_it_was_traced_with(schema: Schema, backbone: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    student = trained_looking(schema, backbone)
    traced = rows(schema, 2, 3), rows(schema, 5, 3), torch.tensor([0, 0, 1, 1, 1])
    many = {0: torch.export.Dim("M")}
    program = torch.onnx.export(
        student, traced, dynamo=True, dynamic_shapes=({0: torch.export.Dim("B")}, many, many), verbose=False
    )
    assert program is not None
    program.save(tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "student.onnx"))
    asked = rows(schema, 1, 3), rows(schema, 64, 3), torch.zeros(64, dtype=torch.int64)
    names = [each.name for each in session.get_inputs()]
    (made,) = session.run(None, dict(zip(names, (each.numpy() for each in asked), strict=True)))
    np.testing.assert_allclose(made, student(*asked).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", NAMES)
def test_a_history_is_part_of_the_request(schema: Schema, backbone: str) -> None:
    student = Student(replace(schema, history=HistorySpec(4, 3)), backbone)
    for parameter in student.parameters():
        nn.init.normal_(parameter, std=0.3)
    student.eval()
    request, candidate, history = rows(schema, 2, 3), rows(schema, 6, 3), torch.rand(2, 4 * 5) + 0.1
    owner = torch.tensor([0, 0, 1, 1, 1, 1])
    made = student(request, candidate, owner, history)
    assert (made - student(request, candidate, owner, torch.zeros(2, 20))).abs().max() > 1e-3
    gathered = student.table(request[1:]), student.table(candidate[2:])
    torch.testing.assert_close(student.score_one_request(*gathered, history[1:]), made[2:], rtol=1e-4, atol=1e-5)


def test_a_history_is_given_where_the_schema_has_one_and_only_there(schema: Schema) -> None:
    asked = rows(schema, 1, 3), rows(schema, 1, 3), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ModelError, match="history: missing"):
        Student(replace(schema, history=HistorySpec(4, 3)))(*asked)
    with pytest.raises(ModelError, match="reads none"):
        Student(schema)(*asked, torch.zeros(1, 20))
