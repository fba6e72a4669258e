import asyncio
import time

import pytest

from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.errors import BusyError, LateError, UnavailableError


async def _drained(watchdog: Watchdog) -> bool:
    for _ in range(200):
        if watchdog.running == 0:
            return True
        await asyncio.sleep(0.005)
    return False


@pytest.mark.parametrize("prompt", [False, True])
async def test_quick_work_gives_its_result_and_its_errors(prompt: bool) -> None:
    watchdog = Watchdog()

    async def fail() -> int:
        raise BusyError("full")

    async def work() -> int:
        return 7

    assert await watchdog.within(work(), Deadline.after(1), prompt=prompt) == 7
    with pytest.raises(BusyError, match="full"):
        await watchdog.within(fail(), Deadline.after(1), prompt=prompt)
    assert await _drained(watchdog)


@pytest.mark.parametrize("prompt", [False, True])
async def test_late_work_is_cancelled_at_the_deadline(prompt: bool) -> None:
    watchdog, ended = Watchdog(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(LateError):
        await watchdog.within(work(), Deadline.after(0.02), prompt=prompt)
    await asyncio.wait_for(ended.wait(), 1)
    assert await _drained(watchdog)


async def test_work_that_ignores_its_cancellation_holds_nothing_back() -> None:
    watchdog, release = Watchdog(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    start_s = time.monotonic()
    with pytest.raises(LateError):
        await watchdog.within(stubborn(), Deadline.after(0.02))
    assert time.monotonic() - start_s < 5  # it would go on for ever
    assert watchdog.running == 1
    release.set()
    assert await _drained(watchdog)


@pytest.mark.parametrize("prompt", [False, True])
async def test_a_cancelled_request_cancels_its_work_and_stays_cancelled(prompt: bool) -> None:
    watchdog, started, ended = Watchdog(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    request = asyncio.create_task(watchdog.within(work(), Deadline.after(60), prompt=prompt))
    await started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await asyncio.wait_for(ended.wait(), 1)
    assert await _drained(watchdog)


async def test_work_that_gives_itself_up_is_unavailable_and_not_our_cancellation() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(UnavailableError):
        await Watchdog().within(work(), Deadline.after(1))


async def test_a_failure_after_the_deadline_is_swallowed() -> None:
    watchdog = Watchdog()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise BusyError("too late to matter")

    with pytest.raises(LateError):
        await watchdog.within(work(), Deadline.after(0.01))
    assert await _drained(watchdog)


@pytest.mark.parametrize("prompt", [False, True])
async def test_a_deadline_that_has_passed_is_late_at_once(prompt: bool) -> None:
    async def work() -> None:
        await asyncio.sleep(60)

    with pytest.raises(LateError):
        await Watchdog().within(work(), Deadline.after(-1), prompt=prompt)


async def test_prompt_work_runs_in_the_request_and_its_own_timeouts_are_its_own() -> None:
    watchdog = Watchdog()

    async def work() -> "asyncio.Task[None] | None":
        return asyncio.current_task()

    async def times_out() -> None:
        raise TimeoutError("another timer's")

    assert await watchdog.within(work(), Deadline.after(1), prompt=True) is asyncio.current_task()
    with pytest.raises(TimeoutError, match="another timer's"):
        await watchdog.within(times_out(), Deadline.after(1), prompt=True)
