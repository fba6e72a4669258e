"""The whole graph, embedding table included, in ONNX Runtime: one run for all requests of a batch."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A graph with one thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class WholeGraph:
    """See `Engine`. How many candidates a run has may change a probability's last bits, at most 1e-6."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = {entry.name for entry in session.get_inputs()}

    def run(
        self,
        request_rows: NDArray[np.int64],
        candidate_rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        history: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        owner = np.repeat(np.arange(len(counts)), counts)
        feed = {
            "request_rows": request_rows,
            "candidate_rows": candidate_rows,
            "owner": owner,
            "request_history": history,
        }
        (probability,) = self._session.run(None, {name: feed[name] for name in self._names})
        return np.asarray(probability, np.float32)


def load(folder: Path) -> WholeGraph:
    """The version's engine: `model.onnx`."""
    return WholeGraph(open_session(folder / "model.onnx"))
