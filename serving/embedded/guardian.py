"""Runs one server process and outlives nobody: when its parent goes, the server and the stubs go.

Started by `serving.embedded.process` as a script of its own, with the standard library only. Its standard input is a
pipe from the parent: a byte means stop, and so does the end of file, for then the parent died. A parent-death signal
would not do, for it fires when the parent's *thread* ends. The server leads a process group, so its stubs can be ended
with it.

usage: guardian.py GRACE_S SHARED_MEMORY_PREFIX COMMAND [ARGUMENT ...]
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NICENESS = 5
"""Of the server and its stubs: a frontend that has to wait for a core can't answer in time with anything."""
ASKED = b"."
"""On standard input: the parent wants the server to stop, and does not just end."""
ORPHANED_S = 10.0
"""How long a server whose parent died may answer those who still ask it, such as workers that drain."""
GROUP_S = 2.0
"""The longest to wait until the killed stubs have ended, seconds."""


def main(grace_s: float, prefix: str, command: list[str]) -> int:
    """Run `command` until it ends or standard input does; its process id is the first line of standard output."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        process_group=0,
        preexec_fn=_begin,  # noqa: PLW1509 this process has no other thread
    )
    try:
        os.write(1, f"{server.pid}\n".encode())
        _wait_for_either(server)
        if not _asked():
            grace_s = max(grace_s, ORPHANED_S)
        if grace_s and server.poll() is None:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(grace_s)
    finally:
        _end_group(server)
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            left.unlink(missing_ok=True)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _begin() -> None:
    """In the child: get SIGKILL when this guardian is itself killed, and yield to whoever keeps the budget."""
    os.nice(NICENESS)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(server: "subprocess.Popen[bytes]") -> None:
    """Kill the server and its stubs, and wait until they have ended; the stubs it leaves become our children."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    until_s = time.monotonic() + GROUP_S
    with suppress(ChildProcessError):
        while time.monotonic() < until_s:
            if os.waitpid(-server.pid, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def _asked() -> bool:
    """Whether the parent has asked; nothing at the end of the pipe, or no pipe's end yet, means that it has not."""
    ready, _, _ = select.select([0], [], [], 0)
    return bool(ready) and os.read(0, 1) == ASKED


def _wait_for_either(server: "subprocess.Popen[bytes]") -> None:
    ended = os.pidfd_open(server.pid)
    try:
        select.select([0, ended], [], [])
    finally:
        os.close(ended)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
