"""Calls a Triton server over gRPC, with messages made before the load."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from exfm.features.signature import PROBABILITY, tensors_of
from loadtest.checking.outcomes import Outcome
from loadtest.peers.caller import CHANNEL, CONNECTIONS, Probability, RefusedError
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.model import Model
from loadtest.peers.samples import Sample

INFER = "/inference.GRPCInferenceService/ModelInfer"
TYPES = {"ids": "INT64", "numbers": "FP32"}
FULL_QUEUE = ("exceeds maximum queue size", "request timeout expired")
"""How Triton says that it is full; its status, UNAVAILABLE, stands for more than that."""
METADATA_S = 5.0


class TritonCaller:
    """A caller of one model version; `queue_timeout_s` is sent along if it isn't None."""

    def __init__(
        self, address: str, model: Model, samples: Sequence[Sample], queue_timeout_s: float | None = None
    ) -> None:
        self._tasks = model.tasks
        self._messages = [infer_message(model, sample, queue_timeout_s) for sample in samples]
        self._channels = [grpc.aio.insecure_channel(address, options=CHANNEL) for _ in range(CONNECTIONS)]
        read = service_pb2.ModelInferResponse.FromString
        self._calls: list[Any] = [channel.unary_unary(INFER, response_deserializer=read) for channel in self._channels]

    async def ask(self, index: int, timeout_s: float) -> tuple[str, Probability]:
        """See `Caller.ask`."""
        try:
            call = self._calls[index % len(self._calls)]
            answer = await call(self._messages[index % len(self._messages)], timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            if any(words in (error.details() or "").lower() for words in FULL_QUEUE):
                raise RefusedError(error.details()) from error
            raise
        return Outcome.FULL, np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(-1, self._tasks)

    async def close(self) -> None:
        """See `Caller.close`."""
        for channel in self._channels:
            await channel.close()


def server_version(address: str) -> str:
    """What the server calls itself, such as "2.51.0"; `PeerUnavailableError` if it doesn't say."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return str(stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=METADATA_S).version)
        except grpc.RpcError as error:
            raise PeerUnavailableError(f"{address} does not tell its version: {error}") from error


def infer_message(model: Model, sample: Sample, queue_timeout_s: float | None) -> bytes:
    """The inference request for a sample, serialised."""
    request = service_pb2.ModelInferRequest(model_name=model.vertical, model_version=str(model.version))
    if queue_timeout_s is not None:
        request.parameters["timeout"].int64_param = int(queue_timeout_s * 1e6)
    for tensor in tensors_of(model.schema):
        values = sample.tensors[tensor.name]
        # The model's batch dimension counts requests: `request_*` has it already.
        shape = (1, *values.shape) if tensor.name.startswith("candidate") else values.shape
        request.inputs.add(name=tensor.name, datatype=TYPES[tensor.kind], shape=shape)
        request.raw_input_contents.append(values.tobytes())
    request.outputs.add(name=PROBABILITY)
    message: bytes = request.SerializeToString()
    return message
