"""Whether a user's own module does what the protocol says (`exporter.own_model`)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exfm.features.schema import Schema
from exporter.engines.dense import splits
from exporter.engines.requests import random_rows
from exporter.errors import ExportRefusedError
from exporter.factory import first_line
from exporter.golden_batch import GoldenBatch
from exporter.trace import ServedStudent
from exporter.verify import PARITY_BOUND, Batch, torch_probability


def check_module(served: ServedStudent, schema: Schema) -> None:
    """Call it as it will be called, jagged, and hold what comes out to the protocol."""
    batch = random_rows(schema, np.ones(schema.rows, bool), seed=0)
    made = _answer(served, batch)
    expected = (len(batch.owner), len(schema.tasks))
    if not isinstance(made, Tensor) or made.dtype != torch.float32 or tuple(made.shape) != expected:
        what = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise ExportRefusedError(
            f"model: forward returned {what} for {expected[0]} candidates and the tasks {', '.join(schema.tasks)}; "
            f"expected logits, torch.float32 {list(expected)}"
        )
    if not bool(torch.isfinite(made).all()):
        raise ExportRefusedError("model: forward returned a logit that is not a finite number")
    _check_alone(served, batch, made)
    weight = served.student.table.weight if splits(served) else None
    if weight is not None and (weight.ndim != 2 or len(weight) < schema.rows):
        raise ExportRefusedError(f"model: table.weight is {list(weight.shape)}, the schema has {schema.rows} rows")


def _check_alone(served: ServedStudent, batch: Batch, made: Tensor) -> None:
    for place in range(len(batch.request_rows)):
        mine = batch.owner == place
        alone = torch.sigmoid(_answer(served, _request(batch, place)))
        off = float((alone - torch.sigmoid(made[torch.from_numpy(mine)])).abs().max())
        if not off <= PARITY_BOUND:
            raise ExportRefusedError(
                f"model: a request's probabilities depend on what it is batched with, by {off:.3g}; "
                f"the bound is {PARITY_BOUND:g}"
            )


def _answer(served: ServedStudent, batch: Batch) -> Any:
    parts = (batch.request_rows, batch.candidate_rows, batch.owner, batch.history)
    given = [torch.from_numpy(part) for part in parts if part is not None]
    module: nn.Module = served.student
    try:
        with torch.no_grad():
            return module(*given)
    except Exception as error:  # whatever a user's code does
        shapes = ", ".join(f"{part.dtype} {list(part.shape)}" for part in given)
        raise ExportRefusedError(f"model: forward({shapes}): {first_line(error)}") from error


def _request(batch: Batch, place: int) -> Batch:
    mine = batch.owner == place
    history = None if batch.history is None else batch.history[place : place + 1]
    owner = np.zeros(int(mine.sum()), np.int64)
    return Batch(batch.request_rows[place : place + 1], batch.candidate_rows[mine], owner, history)


def check_answers(served: ServedStudent, golden: GoldenBatch) -> None:
    """The expected probabilities are what the module answers to the raw values, encoded as serving encodes them."""
    batch = golden.encode()
    made = torch_probability(served, batch)
    off = np.abs(made - golden.probability)
    if (off <= PARITY_BOUND).all():
        return
    row, task = np.unravel_index(int(off.argmax()), off.shape)
    logits = np.asarray(_answer(served, batch))
    hint = "; forward must return logits" if np.abs(logits - golden.probability).max() <= PARITY_BOUND else ""
    raise ExportRefusedError(
        f"golden: the model's {golden.schema.tasks[task]} of row {row} is {made[row, task]:.6g}, expected is "
        f"{golden.probability[row, task]:.6g}; the bound is {PARITY_BOUND:g}{hint}"
    )
