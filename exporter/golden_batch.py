"""The golden batch of a user's own model: requests, the probabilities expected for them and, where known, outcomes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exfm.distill.metrics import measure
from exfm.features.schema import Schema
from exfm.features.signature import DTYPES, OWNER, PROBABILITY, tensors_of
from exporter.errors import ExportRefusedError
from exporter.golden import encode_batch
from exporter.verify import Batch

LABEL = "label"


@dataclass(frozen=True)
class GoldenBatch:
    """B requests with M candidates together.

    Attributes:
        schema: the vertical's own.
        tensors: raw values by name of tensor (`exfm.features.signature.tensors_of`): `request_*` [B, w] and
            `candidate_*` [M, w], ids int64 and numbers float32.
        owner: int64 [M], which request each candidate belongs to, ascending from 0; each has at least one.
        probability: float32 [M, T], what the model is expected to answer.
        label: float32 [M, T], 1 where the outcome came, 0 where it did not, NaN where nobody knows; None: no outcomes.
    """

    schema: Schema
    tensors: dict[str, NDArray[Any]]
    owner: NDArray[np.int64]
    probability: NDArray[np.float32]
    label: NDArray[np.float32] | None = None

    @classmethod
    def load(cls, path: Path, schema: Schema) -> Self:
        """Read the `.npz`; `owner` may be left out of one with a single request.

        Raises:
            ExportRefusedError: naming the array that is missing or has another type or shape than the schema implies.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
        except Exception as error:  # junk makes the readers of zip and npy raise nearly anything
            raise ExportRefusedError(f"golden: {path}: not a readable .npz: {error}") from error
        try:
            return cls._of(arrays, schema)
        except ExportRefusedError as error:
            raise ExportRefusedError(f"golden: {path}: {error}") from error

    @classmethod
    def _of(cls, arrays: dict[str, NDArray[Any]], schema: Schema) -> Self:
        tensors = tensors_of(schema)
        known = {tensor.name for tensor in tensors} | {PROBABILITY}
        if missing := sorted(known - set(arrays)):
            raise ExportRefusedError(f"lacks {missing[0]}, of {', '.join(sorted(known))}")
        if unknown := sorted(set(arrays) - known - {OWNER, LABEL}):
            raise ExportRefusedError(f"{unknown[0]} is no tensor of the schema")
        candidates = len(arrays[PROBABILITY]) if arrays[PROBABILITY].ndim else 0
        requests = next((len(arrays[t.name]) for t in tensors if not t.per_candidate and arrays[t.name].ndim), 1)
        owner = arrays.get(OWNER, np.zeros(candidates, np.int64))
        counts = np.bincount(owner) if owner.dtype == np.int64 and owner.ndim == 1 and (owner >= 0).all() else ()
        if len(owner) != candidates or len(counts) != requests or not all(counts) or (np.diff(owner) < 0).any():
            raise ExportRefusedError(f"owner does not say whose of {requests} requests each of {candidates} rows is")
        for tensor in tensors:
            rows = candidates if tensor.per_candidate else requests
            _check(tensor.name, arrays[tensor.name], DTYPES[tensor.kind], (rows, tensor.width))
        for name in {PROBABILITY, LABEL} & set(arrays):
            _check(name, arrays[name], np.dtype(np.float32), (candidates, len(schema.tasks)))
        own = {tensor.name: np.ascontiguousarray(arrays[tensor.name]) for tensor in tensors}
        return cls(schema, own, owner, arrays[PROBABILITY], arrays.get(LABEL))

    def encode(self) -> Batch:
        """As training encodes it."""
        return encode_batch(self.schema, self.tensors, self.owner)

    def first(self) -> dict[str, NDArray[Any]]:
        """The first request, by name of tensor: what canaries ask for ever after, at most as many as it may carry."""
        (vertical,) = self.schema.verticals
        count = min(int(np.count_nonzero(self.owner == 0)), vertical.max_candidates)
        return {name: value[: count if name.startswith("candidate") else 1] for name, value in self.tensors.items()}

    def base_rate(self) -> NDArray[np.float32]:
        """Mean expected probability by task, float32 [T]."""
        rate: NDArray[np.float32] = self.probability.mean(axis=0, dtype=np.float64).astype(np.float32)
        return rate

    def quality(self) -> dict[str, Any]:
        """NE and AUC of the expected probabilities against the outcomes; figures without a meaning are left out."""
        if self.label is None:
            return {}
        by_task: dict[str, dict[str, Any]] = {}
        for place, task in enumerate(self.schema.tasks):
            figures = measure(self.label[:, place], self.probability[:, place])
            by_task[task] = {name: value for name, value in vars(figures).items() if np.isfinite(value)}
        (_, first), *others = by_task.items()
        return {**first, **({"tasks": dict(others)} if others else {})}


def _check(name: str, value: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, int]) -> None:
    if value.dtype != dtype or value.shape != shape:
        raise ExportRefusedError(f"{name} is {value.dtype} {list(value.shape)}, expected {dtype} {list(shape)}")
    # A missing number is the schema's default, and an outcome nobody knows is NaN.
    if name == PROBABILITY and not ((value >= 0) & (value <= 1)).all():
        raise ExportRefusedError(f"{name} holds a value outside [0, 1]")
    if name == LABEL and not (np.isnan(value) | (value == 0) | (value == 1)).all():
        raise ExportRefusedError(f"{name} holds a value that is neither 0, 1 nor NaN")
    if name not in (PROBABILITY, LABEL) and dtype.kind == "f" and not np.isfinite(value).all():
        raise ExportRefusedError(f"{name} holds a value that is not finite")
