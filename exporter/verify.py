"""What must hold before a graph is published; anything else is refused."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from exfm.features.signature import tensors_of
from exfm.models.checkpoint import Checkpoint
from exporter.errors import ExportRefusedError
from exporter.trace import ServedStudent

PARITY_BOUND = 1e-5
"""How far a probability may be from torch's in fp32, absolute."""

TABLE = "student.table.weight"


@dataclass(frozen=True)
class Batch:
    """Encoded requests.

    Attributes:
        request_rows: int64 [B, Fr].
        candidate_rows: int64 [M, Fc].
        owner: int64 [M].
        history: float32 [B, L * (d + 2)] where the schema has a history.
    """

    request_rows: NDArray[np.int64]
    candidate_rows: NDArray[np.int64]
    owner: NDArray[np.int64]
    history: NDArray[np.float32] | None = None


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Refuse what is no complete, finite student of one vertical.

    Raises:
        ExportRefusedError: naming the entry.
    """
    if checkpoint.kind != "student":
        raise ExportRefusedError(f"kind: this is a {checkpoint.kind}'s checkpoint; only students are served")
    verticals = [vertical.name for vertical in checkpoint.schema.verticals]
    if verticals != [checkpoint.vertical]:
        raise ExportRefusedError(f"schema: speaks of {', '.join(verticals)}, the student of {checkpoint.vertical!r}")
    if checkpoint.tasks != checkpoint.schema.tasks:
        raise ExportRefusedError(f"tasks: {checkpoint.tasks}, the schema says {checkpoint.schema.tasks}")
    for name, weight in checkpoint.state.items():
        if not bool(torch.isfinite(weight).all()):
            raise ExportRefusedError(f"state: {name} holds a value that is not finite")
    _check_prior(checkpoint)
    _check_golden(checkpoint)


def _check_prior(checkpoint: Checkpoint) -> None:
    prior, tasks = checkpoint.prior, len(checkpoint.tasks)
    if prior is None:
        raise ExportRefusedError("prior: the checkpoint has none")
    if prior.probability.shape != (len(prior.ad), tasks) or prior.default.shape != (tasks,):
        raise ExportRefusedError(f"prior: {prior.probability.shape} for {len(prior.ad)} ads and {tasks} tasks")
    if (np.diff(prior.ad) <= 0).any():
        raise ExportRefusedError("prior: ad keys must ascend, each once")
    for values in (prior.probability, prior.default):
        if not ((values >= 0) & (values <= 1)).all():
            raise ExportRefusedError("prior: a probability is outside [0, 1]")


def _check_golden(checkpoint: Checkpoint) -> None:
    expected = {tensor.name: tensor for tensor in tensors_of(checkpoint.schema)}
    if set(checkpoint.golden) != set(expected):
        raise ExportRefusedError(f"golden: has {sorted(checkpoint.golden)}, the schema implies {sorted(expected)}")
    rows: dict[str, int] = {"request": 1}
    for name, tensor in expected.items():
        value, group = checkpoint.golden[name], name.partition("_")[0]
        dtype = np.int64 if tensor.kind == "ids" else np.float32
        if value.dtype != dtype or value.ndim != 2 or value.shape[1] != tensor.width or not len(value):
            raise ExportRefusedError(f"golden: {name} is {value.dtype} {value.shape}, the width is {tensor.width}")
        if rows.setdefault(group, len(value)) != len(value):
            raise ExportRefusedError(f"golden: {name} has {len(value)} rows, expected {rows[group]}")


def check_weights(graph: onnx.ModelProto, served: ServedStudent) -> int:
    """Prove that the graph's weights are the serving student's, all of them and nothing else, value by value.

    Integer constants of shapes and axes are not weights, nor are single numbers of the arithmetic, which have no axis.
    A head or an adapter that only training needs would show as a weight too many.

    Returns:
        How many numbers the weights hold together.
    """
    expected, found = _student_weights(served), _graph_weights(graph)
    if extra := sorted(set(found) - set(expected)):
        raise ExportRefusedError(f"graph: holds the weight {extra[0]}, which the serving student has not")
    if missing := sorted(set(expected) - set(found)):
        raise ExportRefusedError(f"graph: lacks the weight {missing[0]} of the serving student")
    for name, weight in expected.items():
        if not np.array_equal(found[name], weight):
            raise ExportRefusedError(f"graph: the weight {name} is not the student's")
    return sum(weight.size for weight in found.values())


def check_open(graph: onnx.ModelProto) -> None:
    """Refuse a user's graph that takes only as many requests or candidates as it was converted with."""
    for entry in graph.graph.input:
        first = entry.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise ExportRefusedError(
                f"graph: {entry.name} became fixed at {first.dim_value} rows: forward loops over them in Python, or "
                "decides by their number"
            )


def check_dense_weights(graph: onnx.ModelProto, served: ServedStudent) -> None:
    """As `check_weights`, for a graph without the table; the converter may have reshaped a weight under a new name."""
    expected = {name: weight.ravel() for name, weight in _student_weights(served).items() if name != TABLE}
    missing = set(expected)
    for name, weight in _graph_weights(graph).items():
        flat = weight.ravel()
        same = [known for known, value in expected.items() if np.array_equal(value, flat)]
        if not same:
            raise ExportRefusedError(f"graph: holds the weight {name}, which is none of the serving student's")
        missing -= set(same)
    if missing:
        raise ExportRefusedError(f"graph: lacks the weight {min(missing)} of the serving student")


def _student_weights(served: ServedStudent) -> dict[str, NDArray[Any]]:
    return {name: weight.detach().numpy() for name, weight in served.state_dict().items()}


def _graph_weights(graph: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
    arrays = [weight for weight in graph.graph.initializer if weight.data_type in floating and weight.dims]
    return {weight.name: numpy_helper.to_array(weight) for weight in arrays}


def torch_probability(served: ServedStudent, batch: Batch) -> NDArray[np.float32]:
    """Probabilities float32 [M, T] by torch."""
    with torch.no_grad():
        parts = (batch.request_rows, batch.candidate_rows, batch.owner, batch.history)
        return np.asarray(served(*(torch.from_numpy(part) for part in parts if part is not None)).numpy(), np.float32)
