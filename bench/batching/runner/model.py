"""What Triton runs for the jagged variant: the published runner, with the batch formed by the caller.

The published runner lies beside this file as `exporter.runner.model`; loading, encoding, graph and scoring are its own.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# The published runner and its encoding go before any other that the server's working directory may offer.
sys.path.insert(0, str(Path(__file__).parent))

from exfm.features.signature import PROBABILITY, UNKNOWN
from exporter.runner import model as published
from exporter.runner.scorer import BadRequestError, Inputs

OWNER = "owner"


class TritonPythonModel(published.TritonPythonModel):
    """The entry points that Triton's Python backend calls."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Score each jagged batch in one run of the graph."""
        return [self._score(request) for request in requests]

    def _score(self, request: Any) -> Any:
        inputs = self._read(request)
        owner = pb_utils.get_input_tensor_by_name(request, OWNER).as_numpy()
        try:
            scores = self._scorer.score(split(inputs, owner))
        except BadRequestError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        probability = np.concatenate([one.probability for one in scores])
        unknown = np.array([one.unknown for one in scores], np.int32)
        tensors = [pb_utils.Tensor(PROBABILITY, probability), pb_utils.Tensor(UNKNOWN, unknown)]
        return pb_utils.InferenceResponse(tensors)


def split(inputs: Inputs, owner: Any) -> list[Inputs]:
    """The requests of a jagged batch, as views; `BadRequestError` unless every request owns one run of rows."""
    count = len(next(value for name, value in inputs.items() if name.startswith("request")))
    rows = len(next(value for name, value in inputs.items() if name.startswith("candidate")))
    if len(owner) != rows or rows == 0 or owner[0] < 0 or owner[-1] >= count or np.any(np.diff(owner) < 0):
        raise BadRequestError(f"{OWNER} does not say whose of {count} requests each of {rows} rows is")
    ends = np.cumsum(np.bincount(owner, minlength=count))
    spans = zip(np.concatenate(([0], ends[:-1])), ends, strict=True)
    return [_one(inputs, place, int(start), int(stop)) for place, (start, stop) in enumerate(spans)]


def _one(inputs: Inputs, place: int, start: int, stop: int) -> Inputs:
    return {
        name: value[place : place + 1] if name.startswith("request") else value[start:stop]
        for name, value in inputs.items()
    }
