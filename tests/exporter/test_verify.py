from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.errors import ExportRefusedError
from exporter.trace import ServedStudent
from exporter.verify import check_weights


@pytest.fixture
def graph(stage: Callable[[str], tuple[Path, Any]]) -> onnx.ModelProto:
    return onnx.load(stage("onnx")[0] / "model.onnx")


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
