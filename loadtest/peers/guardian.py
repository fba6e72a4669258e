"""Runs one server, with all the processes it starts, and outlives nobody.

Started as a script, with the standard library only. Its standard input is a pipe from the parent: end of file means
stop, whether the parent asked for it or died. What a server leaves behind when it ends becomes this process's child
(subreaper), whatever sessions and groups it has put itself into, so everything can be found and ended by its id.

usage: guardian.py GRACE_S COMMAND [ARGUMENT ...]
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
BEHIND = b"10"
"""Niceness of a server's session as a whole."""
LOOK_S = 1.0
"""How often sessions are looked for that weren't there before."""
END_S = 5.0
"""The longest to wait for killed processes to be gone, seconds."""


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` until it ends or standard input does; its process id is the first line of standard output."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    _let_generator_first()
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_begin,  # noqa: PLW1509 this process has no other thread
    )
    try:
        os.write(1, f"{server.pid}\n".encode())
        _wait_for_either(server)
        if server.poll() is None:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(grace_s)
    finally:
        server.kill()
        code = server.wait()
        _end_all()
    return code if code >= 0 else 128 - code


def _let_generator_first() -> None:
    """Linux may share the processor out among sessions first (`autogroup`); a priority counts only within its own.

    Beside a server that takes all it gets, the generator would send late, and the drive be spoiled. Some servers put
    their workers into sessions of their own.
    """
    for pid in (os.getpid(), *descendants(os.getpid())):
        session = Path(f"/proc/{pid}/autogroup")
        with suppress(OSError):
            if session.read_bytes().split()[-1:] != [BEHIND]:
                session.write_bytes(BEHIND)


def _begin() -> None:
    """In the child: get SIGKILL when this guardian is itself killed; no server inherits a generator's priority."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 0))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """Ids of all processes below `root`, zombies left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # The name in parentheses may hold anything, a closing parenthesis included.
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry.name)] = int(parent)
    below: list[int] = []
    fresh = [root]
    while fresh:
        fresh = [pid for pid, parent in parents.items() if parent in fresh]
        below += fresh
    return below


def _end_all() -> None:
    """Kill every descendant; those of a killed one become our children and are found in the next round."""
    until_s = time.monotonic() + END_S
    while (left := descendants(os.getpid())) and time.monotonic() < until_s:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(0.01)


def _wait_for_either(server: "subprocess.Popen[bytes]") -> None:
    ended = os.pidfd_open(server.pid)
    try:
        while not select.select([0, ended], [], [], LOOK_S)[0]:
            _let_generator_first()
    finally:
        os.close(ended)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
