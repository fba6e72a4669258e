"""A server as a child process: on loopback, ready when it answers a known request right, gone when we are."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.checking.outcomes import Outcome
from loadtest.peers import guardian
from loadtest.peers.caller import OFF, Caller, Probability
from loadtest.peers.errors import PeerUnavailableError

LOOPBACK = "127.0.0.1"
GRACE_S = 10.0
POLL_S = 0.1
ASK_S = 1.0
LOG_LINES = 6


@contextlib.contextmanager
def child(command: Sequence[str], environment: Mapping[str, str], log: Path, grace_s: float = GRACE_S) -> Iterator[int]:
    """Run a server, with all it starts, until the block ends; yields its process id.

    Asked to end, it gets `grace_s`; then it is killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    guarded = [sys.executable, "-I", "-S", str(Path(guardian.__file__)), str(grace_s), *command]
    with (
        tempfile.TemporaryDirectory(prefix="exfm-", ignore_cleanup_errors=True) as scratch,
        log.open("ab") as sink,
        subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=dict(environment),
            cwd=scratch,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline() or 0)
        finally:
            process.stdin.close()
            try:
                process.wait(grace_s + guardian.END_S + 5.0)
            except subprocess.TimeoutExpired:
                process.kill()


def clean_environment(**more: str) -> dict[str, str]:
    """This process's variables without those of its own Python; one thread per process for numeric libraries."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | more


def free_port() -> int:
    """A TCP port of the loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Known:
    """A request's answer, and how far a score may be off."""

    probability: Probability
    off: float = OFF


def await_ready(make_caller: Callable[[], Caller], known: Known, pid: int, bound_s: float, log: Path) -> None:
    """Return once the system answers the known request right.

    Raises:
        PeerUnavailableError: it ended, or didn't within `bound_s`; the message ends with the log's last lines.
    """
    why = asyncio.run(_ready(make_caller, known, pid, bound_s))
    if why:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
        raise PeerUnavailableError(f"not ready: {why}; the end of {log}:\n" + "\n".join(lines))


async def _ready(make_caller: Callable[[], Caller], known: Known, pid: int, bound_s: float) -> str:
    """Why it isn't ready; empty if it is."""
    caller = make_caller()
    until_s = time.monotonic() + bound_s
    why = "it never answered"
    try:
        while time.monotonic() < until_s:
            try:
                tier, probability = await caller.ask(0, ASK_S)
            except Exception as error:  # whatever comes while it starts, it may come right yet
                why = f"{type(error).__name__}: {error}"
            else:
                if not (why := _fault(tier, probability, known)):
                    return ""
            if pid and not _lives(pid):
                return "the process ended"
            await asyncio.sleep(POLL_S)
    finally:
        await caller.close()
    return why


def _fault(tier: str, probability: Probability, known: Known) -> str:
    if tier != Outcome.FULL:
        return f"tier {tier} answered"
    if probability.shape != known.probability.shape:
        return f"scores are {list(probability.shape)}, not {list(known.probability.shape)}"
    off = float(np.abs(probability - known.probability).max())
    return "" if off <= known.off else f"scores are off by {off:.3g}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
