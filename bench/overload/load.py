"""The generator's process as the bench holds it: schedules go in, records and CPU times come out."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.overload.figures import Record
from bench.overload.machine import spent_s
from bench.overload.messages import Pools, save_pools
from bench.overload.plant import BenchError, Plant, spent_between
from bench.overload.schedule import Stream, schedule

UP_S = 20.0
GRACE_S = 30.0
"""How long after a schedule's end the generator may take to say that it is done."""
SHOW_S = 3.0
"""Runs shorter than this get no bar."""

Action = tuple[float, Callable[[], None]]
"""When, in seconds from the run's start, and what."""


@dataclass(frozen=True)
class Run:
    """One schedule that was sent.

    Attributes:
        record: what became of each request.
        seconds: of the schedule.
        start_s: the monotonic instant of the schedule's zero.
        generator_cpu_s: CPU seconds of the generator, and of the bench itself while it watched.
        server_cpu_s: of `exfm-serve` and all its descendants.
        other_cpu_s: of everything else, see `spent_s`; the run was disturbed if it is not small. Clocks are read one
            after the other and in ticks, so it may come out some hundredths below zero.
    """

    record: Record
    seconds: float
    start_s: float
    generator_cpu_s: float
    server_cpu_s: float
    other_cpu_s: float

    @property
    def generator_cpu_share(self) -> float:
        """The generator's part of all CPU seconds of the run."""
        return self.generator_cpu_s / max(self.generator_cpu_s + self.server_cpu_s, 1e-9)


class Load:
    """Sends schedules to one server through one generator process."""

    def __init__(self, plant: Plant, process: "subprocess.Popen[str]", out: Path, budget_s: float, seed: int) -> None:
        self._plant = plant
        self._process = process
        self._out = out
        self._budget_s = budget_s
        self._seed = seed
        self.runs = 0

    def run(
        self, streams: Sequence[Stream], name: str, actions: Sequence[Action] = (), *, patience: float = 1.0
    ) -> Run:
        """Send the streams and note what comes back.

        Args:
            streams: what is sent.
            name: of the run, for people.
            actions: happen at their instants.
            patience: how many budgets from its scheduled instant a call waits, and tells the server that it waits.

        Raises:
            BenchError: the generator has ended, or hangs.
        """
        self.runs += 1
        planned = schedule(streams, self._seed + self.runs)
        seconds = max(stream.at_s + stream.seconds for stream in streams)
        paths = {"schedule": str(self._out / "schedule.npz"), "result": str(self._out / "result.npz")}
        np.savez(paths["schedule"], **planned.plain())  # type: ignore[arg-type]  # the stubs take a name for allow_pickle
        before, own_s, machine_s = self._plant.cpu_s(), time.process_time(), spent_s()
        self._tell({**paths, "timeout_s": self._budget_s * patience})
        start_s = float(self._hear(UP_S)["at_s"])
        # What may end in between must be read before it does, hence a reading at each action, too.
        readings = [before, *self._watch(start_s, seconds, name, actions)]
        done = self._hear(GRACE_S)
        readings.append(self._plant.cpu_s())
        machine_s = spent_s() - machine_s
        generator_s = float(done["cpu_s"]) + time.process_time() - own_s
        server_s = sum(spent_between(one, two) for one, two in pairwise(readings))
        with np.load(paths["result"]) as saved:
            record = Record(**{key: saved[key] for key in saved.files})
        return Run(record, seconds, start_s, generator_s, server_s, machine_s - generator_s - server_s)

    def _watch(
        self, start_s: float, seconds: float, name: str, actions: Sequence[Action]
    ) -> Iterator[dict[int, float]]:
        with tqdm(total=round(seconds, 1), desc=name, unit="s", file=sys.stderr, disable=seconds < SHOW_S) as bar:
            for at_s, act in (*actions, (seconds, lambda: None)):
                while (left_s := start_s + at_s - time.monotonic()) > 0:
                    time.sleep(min(left_s, 0.5))
                    bar.update(round(min(time.monotonic() - start_s, seconds), 1) - bar.n)
                if at_s < seconds:
                    yield self._plant.cpu_s()
                    act()

    def _tell(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def _hear(self, bound_s: float) -> dict[str, Any]:
        return hear(self._process, bound_s)


def hear(process: "subprocess.Popen[str]", bound_s: float) -> dict[str, Any]:
    """The generator's next word; `BenchError` if none comes within the bound."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], bound_s)[0]:
        raise BenchError(f"the generator said nothing for {bound_s:g} s")
    line = process.stdout.readline()
    if not line:
        raise BenchError("the generator has ended; its last words are above")
    return dict(json.loads(line))


@contextlib.contextmanager
def loading(plant: Plant, pools: Pools, out: Path, budget_s: float, *, connections: int, seed: int) -> Iterator[Load]:
    """A generator for the plant, for as long as the block lasts."""
    path = out / "pools.npz"
    save_pools(path, pools)
    command = [sys.executable, "-m", "bench.overload.generator", plant.address, str(path), str(connections)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        try:
            hear(process, UP_S)
            yield Load(plant, process, out, budget_s, seed)
        finally:
            process.kill()
