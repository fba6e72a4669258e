"""The server that the demo asks."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtest.driving.server_process import NotReadyError, running

REPLY_RESERVE_MS = 4.0
"""The answer's way back ends in the replay's own event loop, on the same few cores as everything else."""


class DemoError(RuntimeError):
    """A step of the demo failed; the message says which and where its log lies."""


@dataclass(frozen=True)
class Server:
    """A server that is ready: its address, and Triton's."""

    address: str
    triton: str

    def triton_version(self) -> str:
        """The version of the Triton behind the server, as it says itself; `DemoError` if it says nothing."""
        with grpc.insecure_channel(self.triton) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return str(stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=5.0).version)
            except grpc.RpcError as error:
                raise DemoError(f"Triton at {self.triton} does not tell its version: {error}") from error


@contextlib.contextmanager
def serving(repository: Path, log: Path, more: Sequence[str] = ()) -> Iterator[Server]:
    """Run `exfm-serve` on a free port until the block ends, with further arguments.

    Raises:
        DemoError: it did not become ready.
    """
    try:
        with running(repository, log, ("--reply-reserve-ms", str(REPLY_RESERVE_MS), *more)) as process:
            yield Server(process.address, process.triton)
    except NotReadyError as error:
        raise DemoError(str(error)) from error
