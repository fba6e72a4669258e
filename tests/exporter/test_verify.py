from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exfm.features.schema import Schema
from exporter.errors import ExportRefusedError
from exporter.trace import ServedStudent
from exporter.verify import check_weights, random_batch


@pytest.fixture(scope="module")
def served(tiny_schema: Schema, make_checkpoint: Any) -> ServedStudent:
    return ServedStudent(make_checkpoint(tiny_schema, "feed_click").build_student())


@pytest.fixture
def graph(published_repository: Path) -> onnx.ModelProto:
    return onnx.load(published_repository / "feed_click" / "1" / "model.onnx")


def test_weights_are_counted(graph: onnx.ModelProto, served: ServedStudent) -> None:
    assert check_weights(graph, served) == sum(weight.numel() for weight in served.parameters())


def test_a_weight_too_many_is_refused(graph: onnx.ModelProto, served: ServedStudent) -> None:
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "auxiliary.weight"))
    with pytest.raises(ExportRefusedError, match=r"auxiliary\.weight"):
        check_weights(graph, served)


def test_a_missing_weight_is_refused(graph: onnx.ModelProto, served: ServedStudent) -> None:
    place = next(i for i, weight in enumerate(graph.graph.initializer) if weight.name == "student.head.bias")
    del graph.graph.initializer[place]
    with pytest.raises(ExportRefusedError, match=r"lacks the weight student\.head\.bias"):
        check_weights(graph, served)


def test_an_altered_weight_is_refused(graph: onnx.ModelProto, served: ServedStudent) -> None:
    weight = next(weight for weight in graph.graph.initializer if weight.name == "student.head.bias")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(1e-3), weight.name))
    with pytest.raises(ExportRefusedError, match="is not the student's"):
        check_weights(graph, served)


def test_random_batches_are_jagged(tiny_schema: Schema) -> None:
    batch = random_batch(tiny_schema, [2, 1, 3])
    assert batch.request_rows.shape == (3, 6)
    assert batch.candidate_rows.shape == (6, 3)
    assert batch.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert batch.candidate_rows.max() < tiny_schema.rows
