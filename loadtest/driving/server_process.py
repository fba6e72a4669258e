"""`exfm-serve` as a user runs it: a process of its own on a free port, told to be ready and to stop."""

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

READY_S = 90.0
STOP_S = 15.0


class NotReadyError(RuntimeError):
    """The server did not become ready; the message says where its log lies."""


@dataclass(frozen=True)
class ServerProcess:
    """A server that is ready: its process, its address, and that of the Triton behind it."""

    pid: int
    address: str
    triton: str


@contextlib.contextmanager
def running(repository: Path, log: Path, arguments: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """Run the server until the block ends; Triton's own log lies beside `log`.

    Raises:
        NotReadyError: it ended or kept silent instead of becoming ready.
    """
    command = [sys.executable, "-m", "serving", "--model-repository", str(repository), "--json"]
    command += ["--listen", "127.0.0.1:0", "--triton-log", str(log.with_name("triton.log")), *arguments]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink) as run:
        try:
            ready = _ready(run)
            if ready is None:
                raise NotReadyError(f"exfm-serve did not become ready within {READY_S:g} s; see {log}")
            yield ServerProcess(run.pid, str(ready["address"]), str(ready["triton"]))
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
