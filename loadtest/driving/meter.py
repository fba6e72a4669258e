"""How busy the generating process is: over a whole drive, and in its busiest second."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

WINDOW_S = 1.0


class CpuMeter:
    """CPU seconds over wall seconds while an `async with` block runs.

    A load that rises may saturate the generator for seconds that the mean over the run doesn't show. Windows shorter
    than a second are not told apart: the kernel's own jitter would make their shares.

    Attributes:
        cpu_s, wall_s: of the whole block, once it is over.
        peak: the largest share of any window, or of the whole block if that was shorter.
    """

    def __init__(self, cpu_s: Callable[[], float], window_s: float = WINDOW_S) -> None:
        """`cpu_s` says how many CPU seconds there have been so far."""
        self.cpu_s = self.wall_s = self.peak = 0.0
        self._read_cpu_s, self._window_s = cpu_s, window_s
        self._shares: list[float] = []

    async def __aenter__(self) -> Self:
        self._start = time.monotonic(), self._read_cpu_s()
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._beating.cancel()
        self.wall_s, self.cpu_s = time.monotonic() - self._start[0], self._read_cpu_s() - self._start[1]
        self.peak = max(self._shares, default=self.cpu_s / max(self.wall_s, 1e-9))

    async def _beat(self) -> None:
        began_s, used_s = self._start
        while True:
            await asyncio.sleep(self._window_s)
            # A busy loop wakes this late: the window is as long as it was, not as long as it should have been.
            now_s, so_far_s = time.monotonic(), self._read_cpu_s()
            self._shares.append((so_far_s - used_s) / (now_s - began_s))
            began_s, used_s = now_s, so_far_s
