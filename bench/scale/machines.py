"""Frontends in network namespaces of their own, as if on machines of their own, whose cables can be pulled.

For a process that is root in a network namespace of its own (`unshare --map-root-user --net`).
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = "10.9.0.1"
"""This namespace's address; machine `k` has the one that is ten and `k` higher."""
PORT = 8500
READY_S = 60.0


class Machines:
    """`exfm-serve` on each of some machines, joined by a bridge."""

    def __init__(self, folder: Path, repository: Path, arguments: Sequence[str], count: int = 3) -> None:
        self._folder, self._arguments = folder, ["--model-repository", str(repository), "--json", *arguments]
        self.addresses = [f"10.9.0.{11 + number}:{PORT}" for number in range(count)]
        self.ports = [PORT] * count
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int) -> None:
        """Start one and wait until it is ready; `TimeoutError` if it never is."""
        address = self.addresses[number]
        within = f'ip link set lo up; until ip link set eth0 up 2>/dev/null; do sleep 0.02; done; \
            ip addr add {address.rpartition(":")[0]}/24 dev eth0; exec "$@"'
        command = [sys.executable, "-m", "serving", "--listen", address, *self._arguments]
        with (self._folder / f"serve{number}.log").open("wb") as log:
            self._processes[number] = process = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", within, "sh", *command], stdout=subprocess.PIPE, stderr=log
            )
        _until_away(process)
        ip(f"link add cable{number} type veth peer name eth0 netns {process.pid}")
        ip(f"link set cable{number} master exfm up")
        assert process.stdout
        if not select.select([process.stdout], [], [], READY_S)[0] or not process.stdout.readline():
            raise TimeoutError(f"frontend {number} is not ready; see {log.name}")

    def pid(self, number: int) -> int:
        """Of the process that serves there."""
        return self._processes[number].pid

    def kill(self, number: int) -> None:
        """`kill -9`; its cable goes with it."""
        self._processes[number].kill()
        self._processes[number].wait()

    def pull(self, number: int) -> None:
        """Pull its cable: nothing that it is sent arrives, and it says nothing more."""
        ip(f"link set cable{number} down")

    def plug(self, number: int) -> None:
        """Plug it in again."""
        ip(f"link set cable{number} up")

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(len(self.addresses)):
                self.start(number)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def join() -> None:
    """Make this namespace ready for machines."""
    for words in ("link set lo up", "link add exfm type bridge", f"addr add {HERE}/24 dev exfm", "link set exfm up"):
        ip(words)


def ip(words: str) -> None:
    """Run `ip` with these words."""
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _until_away(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the process has its own namespace."""
    own, until_s = os.readlink("/proc/self/ns/net"), time.monotonic() + READY_S
    while os.readlink(f"/proc/{process.pid}/ns/net") == own:
        if time.monotonic() > until_s:
            raise TimeoutError("unshare made no network namespace")
        time.sleep(0.01)
