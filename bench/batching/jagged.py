"""One inference message for several requests: their candidates joined, and `owner` saying whose each row is."""

from collections.abc import Sequence

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from bench.batching.variant import OWNER
from exfm.features.signature import PROBABILITY, UNKNOWN
from serving.errors import BadScoresError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.scorer import Scores, checked
from serving.inference.triton import backend_error
from serving.inference.wire import TYPES
from serving.query import RankQuery

CALL_S = 2.0
"""The longest that a call may take; it is never cancelled before, and requests don't wait for it that long."""


class JaggedModel:
    """The variant that scores a whole jagged batch in one call."""

    def __init__(self, endpoint: TritonEndpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name

    async def score_together(self, queries: Sequence[RankQuery]) -> list[Scores]:
        """Scores of each of the queries, which are of one vertical; a `BackendError` for all of them if it fails."""
        call = self._endpoint.infer(jagged_request(self._name, queries), CALL_S)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise backend_error(error.code(), error.details() or "") from error
        return split_scores(response, queries)


def jagged_request(name: str, queries: Sequence[RankQuery]) -> service_pb2.ModelInferRequest:
    """The message: `request_*` [B, w], `candidate_*` [sum N, w], `owner` [sum N], without a batch dimension."""
    vertical = queries[0].vertical
    request = service_pb2.ModelInferRequest(model_name=name, model_version=str(vertical.version))
    for tensor in vertical.tensors:
        parts = [query.inputs[tensor.name] for query in queries]
        shape = (sum(map(len, parts)), tensor.width)
        request.inputs.add(name=tensor.name, datatype=TYPES[tensor.kind], shape=shape)
        request.raw_input_contents.append(b"".join([part.tobytes() for part in parts]))
    owner = np.repeat(np.arange(len(queries), dtype="<i8"), [len(query) for query in queries])
    request.inputs.add(name=OWNER, datatype="INT64", shape=owner.shape)
    request.raw_input_contents.append(owner.tobytes())
    for output in (PROBABILITY, UNKNOWN):
        request.outputs.add(name=output)
    return request


def split_scores(response: service_pb2.ModelInferResponse, queries: Sequence[RankQuery]) -> list[Scores]:
    """The response cut up again; `BadScoresError` unless it is what these queries must get."""
    raw = {entry.name: data for entry, data in zip(response.outputs, response.raw_output_contents, strict=False)}
    ends = np.cumsum([len(query) for query in queries])
    try:
        probability = np.frombuffer(raw[PROBABILITY], "<f4").reshape(int(ends[-1]), len(queries[0].vertical.tasks))
        unknown = np.frombuffer(raw[UNKNOWN], "<i4").reshape(len(queries))
    except (KeyError, ValueError) as error:
        raise BadScoresError(f"a jagged answer doesn't fit its {len(queries)} requests: {error}") from error
    parts = np.split(probability, ends[:-1])
    return [
        Scores(checked(part, query), int(count)) for part, query, count in zip(parts, queries, unknown, strict=True)
    ]
