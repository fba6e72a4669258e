"""The processes of the asynchronous plane and those that ask it, each started again when it was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bench.scale.servers import free_ports
from exfm.augment.places import Places

JOIN = ("--window", "click=1", "--window", "buy=1.5", "--lateness-s", "0.5")
CALLER = "caller"
CODES, LOOKUPS = "codes", "lookups.json"
"""Files: why rankings failed, and how the last frontend's look-ups ended."""


class Engine(Protocol):
    """A server that a role's URL leads to."""

    def start(self) -> None:
        """Start it; returns when it takes connections."""

    def kill(self) -> None:
        """Kill -9."""


class Processes:
    """The plane's processes, each started again when it was killed, and the engines that they use."""

    def __init__(
        self, places: Places, acks: Path, folder: Path, engines: Mapping[str, Engine], *, seed: int, rps: float
    ) -> None:
        annotate = [sys.executable, "-m", "exfm.commands.annotate"]
        where = where_of(places, folder)
        self.engines = dict(engines)
        python, (port,) = [sys.executable, "-m"], map(str, free_ports(1))
        self._commands: dict[str, list[str]] = {
            "frontend": [*python, "bench.asynchrony.frontend", places.log, port, places.store, str(folder / LOOKUPS)],
            "joiner": [*annotate, "join", *where, *JOIN, "--idle-s", "1"],
            "annotator": [*annotate, "annotate", *where, "--linger-s", "0.2", "--batch", "512"],
            CALLER: [*python, "bench.asynchrony.caller", port, str(acks), str(seed), str(rps), str(folder / CODES)],
        }
        self._log = (folder / "processes.log").open("ab")
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the processes."""
        return tuple(self._commands)

    @property
    def victims(self) -> tuple[str, ...]:
        """Names of all that may be killed."""
        return (*(name for name in self._commands if name != CALLER), *self.engines)

    def start(self, name: str) -> None:
        """Start one; what it says goes into a file."""
        if name in self.engines:
            self.engines[name].start()
            return
        self.running[name] = subprocess.Popen(
            self._commands[name], stdout=self._log, stderr=self._log, env=environment()
        )

    def kill(self, name: str) -> None:
        """Kill -9."""
        if name in self.engines:
            self.engines[name].kill()
            return
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def end(self) -> None:
        """SIGTERM to all, and wait."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()


def where_of(places: Places, folder: Path) -> list[str]:
    """The arguments of `exfm-annotate` that lead to these places."""
    return ["--dir", str(folder), "--log", places.log, "--store", places.store]


def environment() -> dict[str, str]:
    """This process's environment, with one thread per process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
