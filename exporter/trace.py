"""From the student in torch to an ONNX graph whose axes (requests, candidates) stay open."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from exfm.features.schema import Schema
from exfm.features.signature import HISTORY, PROBABILITY, REQUEST_SIDES
from exfm.models.student import Student

REQUEST_ROWS, CANDIDATE_ROWS, OWNER = "request_rows", "candidate_rows", "owner"
ONE_FILE_BYTES = 1 << 30
"""A protobuf message ends at 2 GiB: weights beyond this go into a file beside the graph."""


class ServedStudent(nn.Module):
    """The student as it is served: probabilities float32 [M, T] instead of logits.

    Args:
        student: ours, or a module of the user's that is called like it (`exporter.own_model.OwnModel`).
        own: whether it is the user's. What a converter folds or leaves out of such a graph can't be judged by
            name: parity alone proves its weights.
    """

    def __init__(self, student: Student, *, own: bool = False) -> None:
        super().__init__()
        self.student, self.own = student, own

    def forward(
        self, request_rows: Tensor, candidate_rows: Tensor, owner: Tensor, history: Tensor | None = None
    ) -> Tensor:
        past = () if history is None else (history,)
        return torch.sigmoid(self.student(request_rows, candidate_rows, owner, *past))


def write_graph(served: ServedStudent, schema: Schema, path: Path) -> onnx.ModelProto:
    """Convert and write `path`; returns the graph with its weights, checked for form."""
    requests = torch.export.Dim("requests", min=1)
    candidates = torch.export.Dim("candidates", min=1)
    example, names, shapes = _example(schema), [REQUEST_ROWS, CANDIDATE_ROWS, OWNER], [requests, candidates, candidates]
    if schema.history:
        example, names, shapes = (
            (*example, torch.zeros(3, schema.history.width)),
            [*names, HISTORY],
            [*shapes, requests],
        )
    with quiet():
        program = torch.onnx.export(
            served.eval(),
            example,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=[PROBABILITY],
            dynamic_shapes=tuple({0: open_axis} for open_axis in shapes),
        )
    assert program is not None
    weights_bytes = sum(weight.numel() * weight.element_size() for weight in served.state_dict().values())
    program.save(path, external_data=weights_bytes > ONE_FILE_BYTES)
    onnx.checker.check_model(str(path))
    return program.model_proto


def _example(schema: Schema) -> tuple[Tensor, ...]:
    """Three requests with seven candidates: sizes that no axis has by nature, so that none is taken for a constant."""
    request_width = sum(len(schema.side(side)) for side in REQUEST_SIDES)
    request_rows = torch.zeros(3, request_width, dtype=torch.int64)
    candidate_rows = torch.zeros(7, len(schema.side("ad")), dtype=torch.int64)
    return request_rows, candidate_rows, torch.tensor([0, 0, 1, 1, 1, 2, 2])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the converter's remarks on itself and on absent optional packages off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
