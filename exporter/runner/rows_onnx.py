"""Table outside, dense graph in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporter.runner.rows import RowsEngine, RowTable, open_table
from exporter.runner.whole import open_session


class OnnxDense:
    """See `Dense`; the graph takes any number of candidates."""

    def __init__(self, session: onnxruntime.InferenceSession, table: RowTable, most: int) -> None:
        self._session, self._dtype, self._width = session, table.dtype, table.width
        shapes = {entry.name: entry.shape for entry in session.get_inputs()}
        self._request = np.zeros((1, shapes["request"][1], table.width), table.dtype)
        self._candidates = np.zeros((most, shapes["candidate"][1], table.width), table.dtype)
        self.history = np.zeros(shapes["history"], np.float32) if "history" in shapes else None

    def buffers(self, candidates: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """See `Dense`."""
        if candidates > len(self._candidates):
            self._candidates = np.zeros((candidates, *self._candidates.shape[1:]), self._dtype)
        return self._request, self._candidates[:candidates]

    def run(self, candidates: int) -> NDArray[np.float32]:
        """See `Dense`."""
        feed = {"request": self._request, "candidate": self._candidates[:candidates]}
        if self.history is not None:
            feed["history"] = self.history
        (probability,) = self._session.run(None, feed)
        return np.asarray(probability, np.float32)


def load(folder: Path, most: int) -> RowsEngine:
    """The version's engine: `rows.npy`, `dense.onnx`; `most` candidates are made room for."""
    table = open_table(folder)
    return RowsEngine(table, OnnxDense(open_session(folder / "dense.onnx"), table, most))
