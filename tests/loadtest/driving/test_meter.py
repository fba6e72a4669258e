"""A process that is idle, then busy: the mean hides what the busiest window shows."""

import asyncio
import time

from loadtest.driving.meter import CpuMeter
from loadtest.driving.target import Reply, drive, own_cpu_s


async def test_the_busiest_window_stands_out_of_the_mean() -> None:
    told: list[float] = []
    enough = asyncio.Event()

    def used_s() -> float:
        told.append(0.0 if len(told) < 2 else 1000.0)  # the first window costs nothing, the second all
        if len(told) > 3:
            enough.set()
        return told[-1]

    async with asyncio.timeout(10), CpuMeter(used_s, window_s=0.02) as meter:
        await enough.wait()
    assert meter.cpu_s == 1000
    assert meter.peak > 1.2 * meter.cpu_s / meter.wall_s


async def test_a_block_shorter_than_a_window_has_its_mean() -> None:
    async with CpuMeter(own_cpu_s) as meter:
        time.sleep(0.01)  # noqa: ASYNC251 - the loop stands still, on purpose
    assert meter.peak == meter.cpu_s / meter.wall_s


async def test_a_drive_tells_its_busiest_second() -> None:
    class Busy:
        async def send(self, index: int, _: float) -> Reply:
            until_s = own_cpu_s() + (0.5 if index == 1 else 0.0)
            while own_cpu_s() < until_s:
                pass
            return Reply(True, "full")

    result = await drive(Busy(), [0.0, 1.1, 2.0], budget_s=1.0)
    assert result.cpu_peak > 1.3 * result.cpu_share > 0
