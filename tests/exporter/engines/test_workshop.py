from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exfm.features.schema import Schema
from exfm.models.backbone import BACKBONES
from exfm.models.student import Student
from exporter.engines.dense import Widths, write_dense_onnx
from exporter.engines.workshop import Workshop
from exporter.errors import ExportRefusedError
from exporter.trace import ServedStudent
from exporter.verify import check_dense_weights


@pytest.fixture
def shop(served: ServedStudent, own: Schema, tmp_path: Path) -> Workshop:
    return Workshop(served, own, tmp_path)


def test_files_are_made_once(shop: Workshop) -> None:
    first = shop.rows("float16")
    stamp = first["dense.onnx"].stat().st_mtime_ns
    assert shop.rows("float16")["dense.onnx"].stat().st_mtime_ns == stamp
    assert set(first) == {"dense.onnx", "rows.npy"}


def test_the_table_stands_beside_the_graph_and_nowhere_else(shop: Workshop, served: ServedStudent) -> None:
    files = shop.rows("float32")
    table = served.student.table.weight.detach().numpy()
    assert np.array_equal(np.load(files["rows.npy"]), table)
    shapes = [tuple(weight.dims) for weight in onnx.load(files["dense.onnx"]).graph.initializer]
    assert table.shape not in shapes


def test_the_student_keeps_its_table(shop: Workshop, served: ServedStudent) -> None:
    before = served.student.table.weight
    shop.rows("float16")
    assert served.student.table.weight is before


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbones_dense_graph_holds_the_students_weights(backbone: str, own: Schema, tmp_path: Path) -> None:
    served = ServedStudent(Student(own, backbone, 4)).eval()
    widths = Widths(len(own.side("user")) + len(own.side("context")), len(own.side("ad")))
    graph = write_dense_onnx(served, widths, "float16", tmp_path / "dense.onnx")
    check_dense_weights(graph, served)
    names = {entry.name: [dim.dim_param for dim in entry.type.tensor_type.shape.dim] for entry in graph.graph.input}
    assert names["candidate"][0], "the number of candidates is open"
    weight = next(entry for entry in graph.graph.initializer if entry.name.endswith("head.bias"))
    altered = numpy_helper.to_array(weight) + np.float32(1)
    weight.CopyFrom(numpy_helper.from_array(altered, weight.name))
    with pytest.raises(ExportRefusedError, match="none of the serving student's"):
        check_dense_weights(graph, served)
    graph.graph.initializer.remove(weight)
    with pytest.raises(ExportRefusedError, match=r"lacks the weight student\.head\.bias"):
        check_dense_weights(graph, served)


def test_trained_rows_are_those_whose_first_order_weight_moved(shop: Workshop, served: ServedStudent) -> None:
    first_order = served.student.table.weight.detach()[:, served.student.table.dimension :]
    assert np.array_equal(shop.trained(), (first_order != 0).any(dim=1).numpy())
