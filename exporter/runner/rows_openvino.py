"""Table outside, dense graph in OpenVINO, on processors with bfloat16 arithmetic also in that.

OpenVINO prepares itself for each new number of candidates, for more than a millisecond. So requests are filled up to
one of some sizes, prepared at load; what a request is filled up with has no influence on its own scores.
"""

from bisect import bisect_left
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from exporter.runner.rows import RowsEngine, RowTable, bucket_sizes, open_table


class OpenvinoDense:
    """See `Dense`."""

    def __init__(self, model: Any, table: RowTable, most: int) -> None:
        self._model, self._table = model, table
        self._features = [model.input(name).partial_shape[1].get_length() for name in ("request", "candidate")]
        self._request = np.zeros((1, self._features[0], table.width), table.dtype)
        past = [entry.get_shape() for entry in model.inputs if entry.get_any_name() == "history"]
        self.history = np.zeros(list(past[0]), np.float32) if past else None
        self._sizes: list[int] = []
        self._slots: dict[int, tuple[Any, NDArray[Any]]] = {}
        for size in bucket_sizes(most):
            self._prepare(size)

    def buffers(self, candidates: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """See `Dense`."""
        return self._request, self._slots[self._size(candidates)][1][:candidates]

    def run(self, candidates: int) -> NDArray[np.float32]:
        """See `Dense`."""
        request, _ = self._slots[self._size(candidates)]
        request.infer()
        probability: NDArray[np.float32] = request.get_output_tensor(0).data[:candidates].copy()
        return probability

    def _size(self, candidates: int) -> int:
        if candidates > self._sizes[-1]:
            self._prepare(candidates)
        return self._sizes[bisect_left(self._sizes, candidates)]

    def _prepare(self, size: int) -> None:
        request = self._model.create_infer_request()
        candidates = np.zeros((size, self._features[1], self._table.width), self._table.dtype)
        request.set_tensor("request", openvino.Tensor(self._request, shared_memory=True))
        request.set_tensor("candidate", openvino.Tensor(candidates, shared_memory=True))
        if self.history is not None:
            request.set_tensor("history", openvino.Tensor(self.history, shared_memory=True))
        request.infer()
        self._slots[size] = request, candidates
        self._sizes.append(size)


def load(folder: Path, most: int, precision: str) -> RowsEngine:
    """The version's engine: `rows.npy`, `dense.onnx`; `precision` is OpenVINO's word, such as "bf16"."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # several instances would else share the first core
    }
    table = open_table(folder)
    model = _core().compile_model(str(folder / "dense.onnx"), "CPU", settings)
    return RowsEngine(table, OpenvinoDense(model, table, most))


@cache
def _core() -> openvino.Core:
    """The process's only one, for good.

    Each brings a stack for signals along and, at its end, puts back the one that it found; where that was another's who
    has ended before, the next signal kills the process.
    """
    return openvino.Core()
