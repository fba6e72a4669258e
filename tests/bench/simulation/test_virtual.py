"""Virtual time: it jumps, it can be watched, and it doesn't wait for nothing."""

import asyncio

import pytest

from bench.simulation.virtual import StuckError, VirtualLoop, run


def test_time_jumps_from_timer_to_timer() -> None:
    loop = VirtualLoop()

    async def work() -> list[float]:
        seen = []
        for pause_s in (3600.0, 0.0, 0.5):
            await asyncio.sleep(pause_s)
            seen.append(loop.time())
        return seen

    assert run(work(), loop) == [3600.0, 3600.0, 3600.5]


def test_waiting_for_nothing_is_an_error_instead_of_a_hang() -> None:
    loop = VirtualLoop()

    async def work() -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        run(work(), loop)


def test_every_step_of_the_clock_is_watched_once_when_all_that_was_ready_has_run() -> None:
    loop, seen, done = VirtualLoop(), list[tuple[float, int]](), list[int]()
    loop.watch(lambda: seen.append((loop.time(), len(done))))

    async def work() -> None:
        for _ in range(3):
            loop.call_soon(loop.call_soon, done.append, 1)
            await asyncio.sleep(0.25)

    run(work(), loop)
    assert seen == [(0.0, 1), (0.25, 2), (0.5, 3)]


def test_a_set_of_tasks_has_the_order_of_their_beginnings_and_not_of_their_addresses() -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        try:
            await asyncio.sleep(9.0)
        finally:
            ended.append(number)

    async def several() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(number))

    async def work() -> None:
        task = asyncio.create_task(several())
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait((task,))

    run(work(), VirtualLoop())
    assert ended == list(range(40))


def test_what_the_watch_raises_ends_the_run() -> None:
    loop = VirtualLoop()

    def look() -> None:
        raise ArithmeticError

    async def work() -> None:
        loop.watch(look)
        await asyncio.sleep(1.0)

    with pytest.raises(ArithmeticError):
        run(work(), loop)
