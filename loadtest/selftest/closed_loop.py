"""How not to measure: the next request goes out when the last answer is in, and the clock starts when it is sent."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.driving.target import Target


@dataclass(frozen=True)
class ClosedLoop:
    """Seconds from sending to the answer, float64 [N]."""

    latency_s: NDArray[np.float64]


async def drive_closed(target: Target, seconds: float, timeout_s: float) -> ClosedLoop:
    """One caller after the other for that long."""
    until_s = time.monotonic() + seconds
    taken: list[float] = []
    while (sent_s := time.monotonic()) < until_s:
        await target.send(len(taken), timeout_s)
        taken.append(time.monotonic() - sent_s)
    return ClosedLoop(np.array(taken))
