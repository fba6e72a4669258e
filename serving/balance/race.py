"""Two tries at the same work: the first answer counts, the other try is cancelled."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving.errors import UnavailableError

T = TypeVar("T")


async def race(first: "asyncio.Task[T]", after_s: float, second: Callable[[], "asyncio.Task[T] | None"]) -> T:
    """The result of `first`, or of a second task if that is begun and sooner done.

    Args:
        first: the task under way.
        after_s: how long it is waited for alone, seconds; a failure in this time is not hedged.
        second: begins the other task; None: there is nobody to ask.

    Returns:
        The result of whichever succeeds first. Whatever still runs then, or when this is cancelled, is cancelled and
        not waited for.

    Raises:
        Exception: the failure of `first` if none succeeds.
    """
    tasks = [first]
    try:
        await asyncio.wait(tasks, timeout=max(after_s, 0.0))
        if not first.done() and (other := second()) is not None:
            tasks.append(other)
        while True:
            if winner := next((task for task in tasks if _succeeded(task)), None):
                return winner.result()
            running = [task for task in tasks if not task.done()]
            if not running:
                raise _failure(first)
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _succeeded(task: "asyncio.Task[T]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _failure(task: "asyncio.Task[T]") -> BaseException:
    gone = UnavailableError("the work was given up from within")
    return gone if task.cancelled() else (task.exception() or gone)
