"""The processes under load: `exfm-serve` as a user runs it, the Triton behind it, and what each has cost."""

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtest.driving import server_process

_POLL_S = 0.05
TRITON = "tritonserver"


class BenchError(RuntimeError):
    """A step of the bench failed; the message says which and where its log lies."""


@dataclass(frozen=True)
class Plant:
    """A server that is ready.

    Attributes:
        pid: of `exfm-serve`; all its processes are its descendants.
        address: where it ranks.
        triton: host:port of the Triton behind it.
    """

    pid: int
    address: str
    triton: str

    def triton_pid(self) -> int:
        """Process id of the Triton server that runs now; `BenchError` if none does."""
        for child in self._descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == TRITON:
                    return child.pid
        raise BenchError("exfm-serve has no Triton server among its processes")

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess as error:
            raise BenchError("exfm-serve has ended under the load") from error

    def cpu_s(self) -> dict[int, float]:
        """CPU seconds so far by process id, of the server and all its descendants."""
        return cpu_s([self.pid, *(child.pid for child in self._descendants())])

    def await_triton(self, model: str, bound_s: float) -> float | None:
        """Poll until Triton says the model is ready; the monotonic instant, or None if the bound came first."""
        until_s = time.monotonic() + bound_s
        with grpc.insecure_channel(self.triton, options=[("grpc.max_reconnect_backoff_ms", 100)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < until_s:
                with contextlib.suppress(grpc.RpcError):
                    if stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=1.0).ready:
                        return time.monotonic()
                time.sleep(_POLL_S)
        return None


def cpu_s(pids: Sequence[int]) -> dict[int, float]:
    """User and system seconds by process id; processes that are gone are left out."""
    spent: dict[int, float] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            spent[pid] = times.user + times.system
    return spent


def spent_between(before: dict[int, float], after: dict[int, float]) -> float:
    """CPU seconds between two readings; a process that came in between counts from its beginning."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


@contextlib.contextmanager
def running(repository: Path, out: Path, arguments: str) -> Iterator[Plant]:
    """Run `exfm-serve` on a free port until the block ends; its logs go to `out`.

    Raises:
        BenchError: it did not become ready.
    """
    try:
        with server_process.running(repository, out / "serve.log", shlex.split(arguments)) as process:
            try:
                yield Plant(process.pid, process.address, process.triton)
            finally:
                # A Triton that the bench has stopped can't end when it is asked to.
                with contextlib.suppress(ProcessLookupError, BenchError):
                    os.kill(Plant(process.pid, "", "").triton_pid(), signal.SIGCONT)
    except server_process.NotReadyError as error:
        raise BenchError(str(error)) from error
