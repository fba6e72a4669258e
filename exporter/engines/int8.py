"""A dense graph's matrices in 8 bits, by ONNX Runtime's own tools."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from exporter.verify import Batch


def quantize_dynamic(source: Path, target: Path) -> None:
    """Weights now, activations as they come."""
    with _prepared(source, target) as model:
        quantization.quantize_dynamic(model, target, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})


def quantize_static(source: Path, target: Path, table: NDArray[Any], batch: Batch) -> None:
    """Weights and activations, with ranges found on a batch's rows of the table."""
    with _prepared(source, target) as model:
        quantization.quantize_static(
            model,
            target,
            _Calibration(table, batch),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


class _Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, table: NDArray[Any], batch: Batch) -> None:
        self._feeds = (_feed(table, batch, place) for place in range(len(batch.request_rows)))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _feed(table: NDArray[Any], batch: Batch, place: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "request": table[batch.request_rows[place : place + 1]],
        "candidate": table[batch.candidate_rows[batch.owner == place]],
    }
    return made if batch.history is None else {**made, "history": batch.history[place : place + 1]}


@contextmanager
def _prepared(source: Path, target: Path) -> Iterator[Path]:
    """A copy without the converter's shape notes, which contradict the quantizer's; its advice is kept quiet."""
    model = onnx.load(source)
    del model.graph.value_info[:]
    path = target.with_name("prepared.onnx")
    onnx.save(model, path)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield path
    finally:
        logger.setLevel(level)
        path.unlink()
