"""`exfm-serve` as a user runs it: a process of its own, told to be ready and to stop."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

READY_S = 90.0
STOP_S = 15.0
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
def serving(repository: Path, log: Path) -> Iterator[Server]:
    """Run `exfm-serve` on a free port until the block ends.

    Raises:
        DemoError: it did not become ready.
    """
    command = [str(Path(sys.executable).with_name("exfm-serve")), "--model-repository", str(repository), "--json"]
    command += ["--listen", "127.0.0.1:0", "--triton-log", str(log.with_name("triton.log"))]
    command += ["--reply-reserve-ms", str(REPLY_RESERVE_MS)]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, env=os.environ) as run:
        try:
            ready = _ready(run)
            if ready is None:
                raise DemoError(f"exfm-serve did not become ready within {READY_S:g} s; see {log}")
            yield Server(str(ready["address"]), str(ready["triton"]))
        finally:
            run.terminate()
            try:
                run.wait(STOP_S)
            except subprocess.TimeoutExpired:
                run.kill()


def _ready(run: "subprocess.Popen[bytes]") -> dict[str, object] | None:
    assert run.stdout is not None
    if not select.select([run.stdout], [], [], READY_S)[0]:
        return None
    line = run.stdout.readline()
    return dict(json.loads(line)) if line.strip() else None
