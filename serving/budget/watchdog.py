"""The watchdog: an answer goes out at its time, whatever the work that was to make it is doing."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from serving.budget.deadline import Deadline
from serving.errors import LateError, UnavailableError

T = TypeVar("T")


class Watchdog:
    """Runs work beside the request, so that work which ignores its cancellation can't hold the answer back.

    Only work that is known to let go at once runs in the request itself.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def running(self) -> int:
        """How many pieces of work beside requests have not ended, cancelled ones included."""
        return len(self._running)

    async def within(self, work: Coroutine[Any, Any, T], until: Deadline, *, prompt: bool = False) -> T:
        """Await `work` until the deadline at most.

        If the deadline comes first, or the request is cancelled, the work is cancelled and not waited for. Work that is
        known to be `prompt`, to end at once when it is cancelled, runs in the request itself, which takes less.

        Raises:
            LateError: the deadline came first.
            UnavailableError: work beside the request cancelled itself, as a call does whose channel is closed.
        """
        if prompt:
            return await _in_place(work, until)
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait((task,), timeout=max(until.remaining_s(), 0.0))
            if not task.done():
                raise LateError("the deadline came before the scores")
            if task.cancelled():
                raise UnavailableError("the work was given up from within")
            return task.result()
        finally:
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Read, so that the failure of work that nobody waits for any more isn't reported as forgotten.
            task.exception()


async def _in_place(work: Coroutine[Any, Any, T], until: Deadline) -> T:
    try:
        async with asyncio.timeout(max(until.remaining_s(), 0.0)) as timer:
            return await work
    except TimeoutError:
        if not timer.expired():
            raise
        raise LateError("the deadline came before the scores") from None
