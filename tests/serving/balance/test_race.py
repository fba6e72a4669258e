import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving.balance.race import race
from serving.errors import BusyError, LateError, UnavailableError


class Runner:
    """One try: answers or fails when told."""

    def __init__(self) -> None:
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> str:
        return await self.end


@pytest.fixture
def racing() -> Callable[..., Coroutine[Any, Any, tuple[str, Runner, Runner | None]]]:
    """`await racing(play, after_s=0)`: races two runners while `play(first, second)` decides; what came of it."""

    async def start(play: Callable[[Runner, Runner], None], after_s: float = 0.0) -> tuple[str, Runner, Runner | None]:
        first, seconds = Runner(), list[Runner]()

        def second() -> asyncio.Task[str]:
            seconds.append(Runner())
            asyncio.get_running_loop().call_soon(play, first, seconds[0])
            return seconds[0].task

        try:
            result = await asyncio.wait_for(race(first.task, after_s, second), 5)
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert first.task.done()
            assert all(other.task.done() for other in seconds)
        return result, first, seconds[0] if seconds else None

    return start


async def test_the_second_wins_and_the_first_is_cancelled(racing: Any) -> None:
    result, first, _ = await racing(lambda _, second: second.end.set_result("second"))
    assert result == "second"
    assert first.task.cancelled()


async def test_the_first_wins_and_the_second_is_cancelled(racing: Any) -> None:
    result, _, second = await racing(lambda first, _: first.end.set_result("first"))
    assert result == "first"
    assert second.task.cancelled()


async def test_the_failure_of_one_leaves_the_other(racing: Any) -> None:
    def play(first: Runner, second: Runner) -> None:
        first.end.set_exception(BusyError("full"))
        asyncio.get_running_loop().call_later(0.01, second.end.set_result, "second")

    assert (await racing(play))[0] == "second"


async def test_of_two_failures_the_first_tries_is_told(racing: Any) -> None:
    def play(first: Runner, second: Runner) -> None:
        second.end.set_exception(UnavailableError("gone"))
        first.end.set_exception(LateError("late"))

    with pytest.raises(LateError):
        await racing(play)


async def test_one_that_answers_in_time_has_no_second() -> None:
    runner = Runner()
    asyncio.get_running_loop().call_later(0.01, runner.end.set_result, "first")
    assert await race(runner.task, 5, lambda: pytest.fail("asked")) == "first"


async def test_a_failure_in_time_is_not_hedged() -> None:
    runner = Runner()
    runner.end.set_exception(BusyError("full"))
    with pytest.raises(BusyError):
        await race(runner.task, 5, lambda: pytest.fail("asked"))


async def test_with_nobody_to_ask_the_first_is_waited_for() -> None:
    runner = Runner()
    asyncio.get_running_loop().call_later(0.01, runner.end.set_result, "first")
    assert await race(runner.task, 0, lambda: None) == "first"


async def test_a_try_that_cancels_itself_is_unavailable() -> None:
    runner = Runner()
    runner.end.cancel()
    with pytest.raises(UnavailableError):
        await race(runner.task, 0, lambda: None)


async def test_cancelling_the_race_cancels_both() -> None:
    first, second = Runner(), Runner()
    racing = asyncio.create_task(race(first.task, 0, lambda: second.task))
    await asyncio.sleep(0.01)
    racing.cancel()
    await asyncio.wait((racing, first.task, second.task), timeout=5)
    assert racing.cancelled()
    assert first.task.cancelled()
    assert second.task.cancelled()
