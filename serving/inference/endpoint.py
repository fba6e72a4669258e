"""One Triton server: its channel and the calls that we make on it."""

import re
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.catalog import Vertical
from serving.errors import SchemaMismatchError, UnavailableError
from serving.inference.streams import InferStreams

SCHEMA_HASH = "schema_hash"
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that came back is asked again within half a second; the library's own default may wait two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
]


CANCELS_FROM = (2, 60)
"""The first version that calls are cancelled in; 2.51 crashes under many cancellations (docs/decisions/0005)."""


class TritonEndpoint:
    """A connection to `address` (host:port); made on the event loop that uses it.

    Attributes:
        cancels: whether calls may be cancelled there; known once `check_schema` has asked for the server's version.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.cancels = True
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._streams = InferStreams(self._stub.ModelStreamInfer)

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float
    ) -> service_pb2.ModelStreamInferResponse:
        """Make an inference over a stream; see `InferStream.infer`, also for what it raises."""
        return await self._streams.infer(request, timeout_s, self.cancels)

    async def check_schema(self, vertical: Vertical, timeout_s: float) -> None:
        """Make sure that the model which Triton has loaded was made for this vertical's schema.

        Raises:
            SchemaMismatchError: it was made for another one; waiting won't help.
            UnavailableError: Triton can't be asked, or hasn't loaded the version.
        """
        request = service_pb2.ModelConfigRequest(name=vertical.name, version=str(vertical.version))
        try:
            server = await self._stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=timeout_s)
            answer = await self._stub.ModelConfig(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"Triton at {self.address}: {error.code().name}: {error.details()}") from error
        self.cancels = cancels_well(server.version)
        found = answer.config.parameters[SCHEMA_HASH].string_value
        if found != vertical.schema.digest:
            raise SchemaMismatchError(
                f"{vertical.name}: Triton at {self.address} has loaded a model for schema {found[:12] or 'none'}, "
                f"the repository's version {vertical.version} is for {vertical.schema.digest[:12]}"
            )

    async def close(self) -> None:
        """Close the connection; what is under way on it breaks."""
        self._streams.leave()
        await self._channel.close()


def cancels_well(version: str) -> bool:
    """Whether a Triton of that version bears cancellations; True for one whose number can't be read."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= CANCELS_FROM
