"""The dense part of a student, over table rows that were gathered outside of it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exfm.features.signature import PROBABILITY
from exfm.models.student import Student
from exporter.trace import ServedStudent, quiet

REQUEST, CANDIDATE, PAST = "request", "candidate", "history"


class ServedDense(nn.Module):
    """One request: rows [1, request features, d + T] and [M, ad features, d + T] -> probabilities float32 [M, T].

    A third input, where the schema has a history, is its row, float32 [1, width].
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, request: Tensor, candidate: Tensor, history: Tensor | None = None) -> Tensor:
        past = () if history is None else (history,)
        return torch.sigmoid(self.student.score_one_request(request.float(), candidate.float(), *past))


def splits(served: nn.Module) -> bool:
    """Whether the model has a table and a dense part that takes gathered rows of one request."""
    student = getattr(served, "student", None)
    return hasattr(student, "score_one_request") and hasattr(getattr(student, "table", None), "weight")


def table_of(served: ServedStudent, dtype: str) -> NDArray[Any]:
    """The table, [rows, d + T], in another type.

    Raises:
        OverflowError: a weight does not fit the type.
    """
    with np.errstate(over="ignore"):
        table: NDArray[Any] = served.student.table.weight.detach().numpy().astype(dtype)
    if not np.isfinite(table).all():
        raise OverflowError(f"table.weight holds a value beyond {dtype}")
    return table


@dataclass(frozen=True)
class Widths:
    """Of the dense part's inputs: features of a request, of a candidate, and columns of a history's row, if any."""

    request: int
    candidate: int
    history: int = 0


def write_dense_onnx(served: ServedStudent, widths: Widths, dtype: str, path: Path) -> onnx.ModelProto:
    """Convert and write the dense graph, any number of candidates; returns it with its weights."""
    with quiet():
        program = torch.onnx.export(
            _dense(served),
            _example(served, widths, dtype),
            dynamo=True,
            verbose=False,
            input_names=[REQUEST, CANDIDATE, *([PAST] if widths.history else [])],
            output_names=[PROBABILITY],
            dynamic_shapes=_open_axes(widths),
        )
    assert program is not None
    program.save(path)
    onnx.checker.check_model(str(path))
    return program.model_proto


def write_dense_program(
    served: ServedStudent, widths: Widths, dtype: str, path: Path, *, compiled: bool = False
) -> None:
    """Write the dense part as a `torch.export` program, any number of candidates.

    With `compiled` AOTInductor makes a shared library of it, in a package that torch loads: for this processor's CPU
    and those that can do the same, within seconds, with a C++ compiler.
    """
    with quiet():
        example = _example(served, widths, dtype)
        program = torch.export.export(_dense(served), example, dynamic_shapes=_open_axes(widths))
        if compiled:
            one_thread = {"cpp.threads": 1}  # else as many as this process has, whatever serves
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=one_thread)
        else:
            torch.export.save(program, path)


def _dense(served: ServedStudent) -> ServedDense:
    """A copy whose table is empty: what is served beside the table need not carry it."""
    student = served.student
    weight = student.table.weight
    student.table.weight = nn.Parameter(weight.detach()[:0])
    try:
        return ServedDense(copy.deepcopy(student)).eval()
    finally:
        student.table.weight = weight


def _example(served: ServedStudent, widths: Widths, dtype: str) -> tuple[Tensor, ...]:
    width, kind = served.student.table.weight.shape[1], getattr(torch, dtype)
    history = [torch.zeros(1, widths.history)] if widths.history else []
    rows = torch.zeros(1, widths.request, width, dtype=kind), torch.zeros(7, widths.candidate, width, dtype=kind)
    return (*rows, *history)


def _open_axes(widths: Widths) -> Any:
    return ({}, {0: torch.export.Dim("candidates", min=1)}, *([{}] if widths.history else []))
