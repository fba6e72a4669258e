"""The processes of the asynchronous plane and those that ask it, each started again when it was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from bench.overload.plant import BenchError
from bench.scale.servers import free_ports
from exfm.augment.places import Places

JOIN = ("--window", "click=1", "--window", "buy=1.5", "--lateness-s", "0.5")
CALLER = "caller"
CODES, LOOKUPS = "codes", "lookups.json"
"""Files: why rankings failed, and how the last frontend's look-ups ended."""
RUNNING, KILLED, CLEAN = (None,), (-signal.SIGKILL,), (0, -signal.SIGTERM)
"""Return codes. SIGTERM itself ends who was told to end before it had begun to listen."""
END_S = 60.0
PRESSING = ("--keep-priority",)
"""Arguments of those that don't let everybody else go first."""


class Engine(Protocol):
    """A server that a role's URL leads to."""

    def start(self) -> None:
        """Start it; returns when it takes connections."""

    def kill(self) -> None:
        """Kill -9."""


class Processes:
    """The plane's processes, each started again when it was killed, and the engines that they use.

    Attributes:
        commands: by name.
        engines: by name.
        running: those that were started, by name.
    """

    def __init__(
        self,
        places: Places,
        acks: Path,
        folder: Path,
        engines: Mapping[str, Engine],
        *,
        seed: int,
        rps: float,
        give_way: bool = True,
    ) -> None:
        """See `bench.asynchrony.kill.kill_rounds`."""
        annotate = [sys.executable, "-m", "exfm.commands.annotate"]
        where = [*where_of(places, folder), *(() if give_way else PRESSING)]
        workers = "local:1" if give_way else "local:0"  # worker processes always give way
        self.engines = dict(engines)
        python, (port,) = [sys.executable, "-m"], map(str, free_ports(1))
        self.commands: dict[str, list[str]] = {
            "frontend": [*python, "bench.asynchrony.frontend", places.log, port, places.store, str(folder / LOOKUPS)],
            "joiner": [*annotate, "join", *where, *JOIN, "--idle-s", "1"],
            "annotator": [*annotate, "annotate", *where, "--linger-s", "0.2", "--batch", "512", "--workers", workers],
            CALLER: [*python, "bench.asynchrony.caller", port, str(acks), str(seed), str(rps), str(folder / CODES)],
        }
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the processes."""
        return tuple(self.commands)

    @property
    def victims(self) -> tuple[str, ...]:
        """Names of all that may be killed."""
        return (*(name for name in self.commands if name != CALLER), *self.engines)

    def start(self, name: str) -> None:
        """Start one; what it says goes into a file."""
        if name in self.engines:
            self.engines[name].start()
            return
        with self._log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(self.commands[name], stdout=log, stderr=log, env=environment())

    def kill(self, name: str) -> None:
        """Kill -9; `BenchError` if that is not what a process died of."""
        if name in self.engines:
            self.engines[name].kill()
            return
        self.running[name].kill()
        self.running[name].wait()
        self._demand(name, KILLED)

    def demand(self, codes: Collection[int | None] = RUNNING) -> None:
        """All run, or all have ended with one of these codes.

        Raises:
            BenchError: that one has not; says which, how it ended, and what it said last.
        """
        for name in self.running:
            self._demand(name, codes)

    def end(self) -> None:
        """SIGTERM to all, and wait; SIGKILL to those that don't listen."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _demand(self, name: str, codes: Collection[int | None]) -> None:
        if (code := self.running[name].poll()) not in codes:
            log = self._log(name)
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            raise BenchError(f"{name} ended with code {code}, see {log}: {lines[-1] if lines else 'it said nothing'}")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def where_of(places: Places, folder: Path) -> list[str]:
    """The arguments of `exfm-annotate` that lead to these places."""
    return ["--dir", str(folder), "--log", places.log, "--store", places.store]


def environment() -> dict[str, str]:
    """This process's environment, with one thread per process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
