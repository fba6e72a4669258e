"""A frontend without a model: logs impressions and outcomes as serving does, and notes what was acknowledged.

`python -m bench.asynchrony.frontend LOG ACKS SEED RPS`
"""

import asyncio
import contextlib
import os
import signal
import sys
from itertools import count
from pathlib import Path

import numpy as np

from bench.asynchrony.traffic import impressions
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events.backends import open_log
from exfm.events.ids import impression_key
from exfm.events.impression import Impression
from exfm.events.outcome import Outcome
from serving.budget.clock import wall_ms
from serving.errors import OverloadedError
from serving.impressions.log import ServingLog

SCALE = Scale(rows=2000, days=2, users=200, ads=100)
POSITIVE = 0.4
"""Share of impressions with an outcome."""
SOON_S = 0.3
"""An outcome comes within that."""


class Frontend:
    """Serves the simulator's rows again and again, each time under a new request id."""

    def __init__(self, log: ServingLog, acks: Path, seed: int, rps: float) -> None:
        source = Source("simulator", *simulate(0, SCALE))
        self._rows = impressions(source, source.examples)
        self._tasks = {each.name: each.tasks[0] for each in source.schema.verticals}
        self._log, self._rps = log, rps
        self._draw = np.random.default_rng(seed)
        self._acks = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._prefix = f"{os.getpid()}-{wall_ms()}"

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        async with asyncio.TaskGroup() as group:
            for number in count():
                if stop.is_set():
                    return
                row = self._served(number)
                self._log.offer([row])
                if self._draw.random() < POSITIVE:
                    group.create_task(self._tell(row, float(self._draw.random()) * SOON_S))
                await asyncio.sleep(1 / self._rps)

    def _served(self, number: int) -> Impression:
        row = self._rows[int(self._draw.integers(len(self._rows)))]
        request_id = f"{self._prefix}-{number}"
        return row._replace(key=impression_key(request_id, row.ad), request_id=request_id, time_ms=wall_ms())

    async def _tell(self, row: Impression, after_s: float) -> None:
        await asyncio.sleep(after_s)
        told = Outcome(row.key, self._tasks[row.vertical], 1.0, wall_ms())
        with contextlib.suppress(OverloadedError):
            await self._log.record([told])
            os.write(self._acks, f"{told.key.hex()} {told.task} {told.time_ms}\n".encode())


async def main(url: str, acks: Path, seed: int, rps: float) -> None:
    """Run until SIGTERM, then flush."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log = ServingLog(lambda: open_log(url))
    log.start()
    await Frontend(log, acks, seed, rps).run(stop)
    await asyncio.to_thread(log.close)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
