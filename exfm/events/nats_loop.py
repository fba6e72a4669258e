"""An event loop on a thread of its own, for a client library that has no other face."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for a caller that is none; the loop goes on between the calls, so connections stay alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """The coroutine's result; `TimeoutError` and its cancellation if it takes longer than that."""
        return asyncio.run_coroutine_threadsafe(_bounded(work, timeout_s), self._loop).result()

    @property
    def closed(self) -> bool:
        """It has ended."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Cancel what still runs and end the thread; not to be called again."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _bounded(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
