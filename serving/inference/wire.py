"""Triton's inference messages: raw tensors in, raw tensors out."""

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from exfm.features.signature import PROBABILITY, UNKNOWN, BlockKind
from serving.errors import BadScoresError
from serving.inference.scorer import Scores, checked
from serving.query import RankQuery

TYPES: dict[BlockKind, str] = {"ids": "INT64", "numbers": "FP32"}
QUEUE_SHARE = 0.8
"""The share of the remaining time that a request may wait in Triton's queue; past it there is none left to score."""


def infer_request(query: RankQuery, remaining_s: float) -> service_pb2.ModelInferRequest:
    """The request for one query, pinned to its version, with the queue's timer set."""
    vertical = query.vertical
    request = service_pb2.ModelInferRequest(model_name=vertical.name, model_version=str(vertical.version))
    request.parameters["timeout"].int64_param = max(1, int(remaining_s * QUEUE_SHARE * 1e6))
    for tensor in vertical.tensors:
        values = query.inputs[tensor.name]
        # The model's batch dimension counts requests: `request_*` has it already, `candidate_*` gets it here.
        shape = (1, *values.shape) if tensor.per_candidate else values.shape
        request.inputs.add(name=tensor.name, datatype=TYPES[tensor.kind], shape=shape)
        request.raw_input_contents.append(values.tobytes())
    for name in (PROBABILITY, UNKNOWN):
        request.outputs.add(name=name)
    return request


def read_scores(response: service_pb2.ModelInferResponse, query: RankQuery) -> Scores:
    """The scores in a response.

    Raises:
        BadScoresError: an output is missing, has another type or shape, or holds something that is no probability.
    """
    probability = _output(response, PROBABILITY, "FP32", "<f4")
    if probability.ndim == 3 and len(probability) == 1:
        probability = probability[0]
    unknown = _output(response, UNKNOWN, "INT32", "<i4")
    if unknown.size != 1:
        raise BadScoresError(f"{UNKNOWN} has shape {list(unknown.shape)}, not [1]")
    return Scores(checked(probability, query), int(unknown.reshape(-1)[0]))


def _output(response: service_pb2.ModelInferResponse, name: str, datatype: str, dtype: str) -> NDArray[np.float32]:
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == name:
            if output.datatype != datatype:
                raise BadScoresError(f"{name} is {output.datatype}, not {datatype}")
            try:
                return np.frombuffer(raw, dtype).reshape(tuple(output.shape))
            except ValueError as error:
                raise BadScoresError(f"{name}: {len(raw)} bytes for shape {list(output.shape)}") from error
    raise BadScoresError(f"the answer has no output {name}")
