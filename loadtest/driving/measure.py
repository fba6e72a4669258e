"""One measured drive against a ranking server, from a program without an event loop of its own."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.driving.calls import target_by
from loadtest.driving.conditions import machine_cpu_s
from loadtest.driving.progress import showing
from loadtest.driving.target import LEAD_S, Result, drive
from loadtest.workload.asked import Workload

NICENESS = -10


@dataclass(frozen=True)
class Aim:
    """What to drive and how.

    Attributes:
        address: host:port of the server.
        workload: what to send.
        budget_s: what each request has.
        timeout_s: how long to wait for an answer; the budget, as an ad server would, or longer to see by how much.
        connections: to the server.
        call: how it is asked, one of `calls.TARGETS`.
    """

    address: str
    workload: Workload
    budget_s: float
    timeout_s: float
    connections: int = 4
    call: str = "rank"


@dataclass(frozen=True)
class Measured:
    """A drive and what the machine did meanwhile.

    Attributes:
        others_cpu_s: CPU seconds of everything but the generator; the server's too, if it runs on this machine. The
            kernel counts the machine's in ticks of 10 ms, the generator's exactly: right to some ticks, never below 0.
        zero_unix_s: the schedule's zero by the time of day.
    """

    result: Result
    others_cpu_s: float
    zero_unix_s: float = 0.0


def measure(aim: Aim, schedule_s: NDArray[np.float64], seconds: float, name: str) -> Measured:
    """Drive a schedule of `seconds`; a bar named `name` shows how far it is."""
    before_s = machine_cpu_s()
    with quiet():
        result, zero_unix_s = asyncio.run(_driven(aim, schedule_s, seconds, name))
    return Measured(result, max(machine_cpu_s() - before_s - result.cpu_s, 0.0), zero_unix_s)


async def _driven(aim: Aim, schedule_s: NDArray[np.float64], seconds: float, name: str) -> tuple[Result, float]:
    made = target_by(aim.call, aim.address, aim.workload, aim.connections)
    async with made as target, showing(name, len(schedule_s)) as done:
        zero_unix_s = time.time() + LEAD_S
        result = await drive(target, schedule_s, aim.budget_s, timeout_s=aim.timeout_s, seconds=seconds, done=done)
        return result, zero_unix_s


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of ours disturbs the generator's clock: no garbage collection, and a higher priority where one may."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, before))
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
