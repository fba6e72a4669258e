"""Triton's inference messages: raw tensors in, raw tensors out, for one request or for a jagged batch of them."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from exfm.features.signature import OWNER, PROBABILITY, UNKNOWN, BlockKind
from serving.admission.priority import Priority
from serving.errors import BackendError, BadScoresError
from serving.inference.scorer import Scores, checked
from serving.query import RankQuery

TYPES: dict[BlockKind, str] = {"ids": "INT64", "numbers": "FP32"}
LEVELS = {priority: level for level, priority in enumerate(Priority, start=1)}
"""Triton's, of which 1 goes first; a batch goes with the highest in it."""
QUEUE_SHARE = 0.8
"""The share of the remaining time that a request may wait in Triton's queue; past it there is none left to score."""


def infer_request(query: RankQuery, remaining_s: float) -> service_pb2.ModelInferRequest:
    """The request for one query, pinned to its version, with the queue's timer set; in the form its model takes."""
    vertical = query.vertical
    if vertical.batching:
        return jagged_request([query], remaining_s)
    request = _pinned([query], remaining_s)
    for tensor in vertical.tensors:
        values = query.inputs[tensor.name]
        # The model's batch dimension counts requests: `request_*` has it already, `candidate_*` gets it here.
        shape = (1, *values.shape) if tensor.per_candidate else values.shape
        request.inputs.add(name=tensor.name, datatype=TYPES[tensor.kind], shape=shape)
        request.raw_input_contents.append(values.tobytes())
    return request


def jagged_request(queries: Sequence[RankQuery], remaining_s: float) -> service_pb2.ModelInferRequest:
    """The request for several queries of one model: `request_*` [B, w], `candidate_*` [sum N, w], `owner` [sum N]."""
    vertical = queries[0].vertical
    request = _pinned(queries, remaining_s)
    for tensor in vertical.tensors:
        parts = [query.inputs[tensor.name] for query in queries]
        shape = (sum(map(len, parts)), tensor.width)
        request.inputs.add(name=tensor.name, datatype=TYPES[tensor.kind], shape=shape)
        request.raw_input_contents.append(b"".join([part.tobytes() for part in parts]))
    owner = np.repeat(np.arange(len(queries), dtype="<i8"), [len(query) for query in queries])
    request.inputs.add(name=OWNER, datatype=TYPES["ids"], shape=owner.shape)
    request.raw_input_contents.append(owner.tobytes())
    return request


def _pinned(queries: Sequence[RankQuery], remaining_s: float) -> service_pb2.ModelInferRequest:
    vertical = queries[0].vertical
    request = service_pb2.ModelInferRequest(model_name=vertical.name, model_version=str(vertical.version))
    request.parameters["timeout"].int64_param = max(1, int(remaining_s * QUEUE_SHARE * 1e6))
    request.parameters["priority"].uint64_param = min(LEVELS[query.priority] for query in queries)
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


def split_scores(response: service_pb2.ModelInferResponse, queries: Sequence[RankQuery]) -> list[Scores | BackendError]:
    """The scores of each query in the response to their batch, or what is wrong with them.

    Raises:
        BadScoresError: an output is missing, or of another type or shape.
    """
    ends = list(accumulate(map(len, queries)))
    probability, unknown = _output(response, PROBABILITY, "FP32", "<f4"), _output(response, UNKNOWN, "INT32", "<i4")
    if probability.shape[:1] != (ends[-1],) or unknown.shape != (len(queries),):
        found = f"{list(probability.shape)} and {list(unknown.shape)}"
        raise BadScoresError(f"scores are {found} for {len(queries)} requests of {ends[-1]} candidates")
    parts = [probability[first:end] for first, end in zip((0, *ends), ends, strict=False)]
    return [_one(part, count, query) for part, count, query in zip(parts, unknown.tolist(), queries, strict=True)]


def _one(probability: NDArray[np.float32], unknown: int, query: RankQuery) -> Scores | BackendError:
    try:
        return Scores(checked(probability, query), unknown)
    except BadScoresError as error:
        return error


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
