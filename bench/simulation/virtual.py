"""An event loop on virtual time: it jumps to the next timer instead of waiting, so runs are fast and repeatable."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator, Mapping
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

_Coro = Generator[Any, None, T] | Coroutine[Any, Any, T]


class StuckError(RuntimeError):
    """Nothing is ready and no timer is set: the code under test waits for something that can't come."""


class _Jump(selectors.BaseSelector):
    """A selector that never waits: being asked to wait moves the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.before_step: Callable[[], None] | None = None
        self._keys: dict[int, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StuckError(f"stuck at {self.now_s:.6f} s: nothing is ready and no timer is set")
        if timeout > 0:
            if self.before_step:
                self.before_step()
            self.now_s += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class _Numbered(asyncio.Task[T]):
    """A task that hashes to its number, so that a set of tasks, such as a task group's, has the same order in every run
    and not that of their addresses."""

    def __init__(self, coro: "_Coro[T]", number: int, loop: asyncio.AbstractEventLoop, **more: Any) -> None:
        self._number = number  # before the task is put into the first set
        super().__init__(coro, loop=loop, **more)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """The standard event loop on virtual time, which starts at 0 and moves only when everything ready has run."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        # Timers due within a resolution run together; the clock's own would group virtual instants.
        self._clock_resolution = 1e-12
        self._numbers = count()
        self.set_task_factory(self._task)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jump.now_s

    def _task(self, loop: asyncio.AbstractEventLoop, coro: "_Coro[T]", **more: Any) -> "asyncio.Task[T]":
        return _Numbered(coro, next(self._numbers), loop, **more)

    def watch(self, look: Callable[[], None] | None) -> None:
        """From now on call `look` before every step of the clock: all that was ready has run, and what it left stays.

        What `look` raises ends the run of the loop, as no callback's error does.
        """
        self._jump.before_step = look


def run(work: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run `work` to its end on the loop, cancel what it left behind, and close the loop."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.watch(None)
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
