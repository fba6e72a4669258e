"""Readiness: the server is ready while every vertical has a backend whose canary is trusted."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from serving.inference.guard import GuardedScorer


class Readiness:
    """Sends every guard's canary again and again, each in its own time, and tells of changes."""

    def __init__(
        self,
        guards: Mapping[str, Sequence[GuardedScorer]],
        tell: Callable[[bool], Awaitable[None]],
        interval_s: float = 1.0,
        eager_s: float = 0.05,
    ) -> None:
        """Prepare.

        Args:
            guards: by vertical, one per backend.
            tell: called with the new state whenever it changes; the first state is False and isn't told.
            interval_s: between the canaries of a trusted backend, seconds.
            eager_s: between those of one that isn't.
        """
        self._guards = {name: tuple(several) for name, several in guards.items()}
        self._tell = tell
        self._interval_s = interval_s
        self._eager_s = eager_s
        self._ready = asyncio.Event()
        self._telling = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether every vertical has a trusted canary."""
        return self._ready.is_set()

    @property
    def last(self) -> dict[str, str]:
        """By vertical, what its canaries found."""
        return {name: "; ".join(map(_said, several)) for name, several in self._guards.items()}

    async def wait(self) -> None:
        """Return once ready."""
        await self._ready.wait()

    async def run(self) -> None:
        """Check for ever; ends by cancellation. A backend that hangs holds up no other's canary."""
        async with asyncio.TaskGroup() as group:
            for several in self._guards.values():
                for guard in several:
                    group.create_task(self._watch(guard))

    async def round(self) -> None:
        """Check every backend once, all at the same time."""
        await asyncio.gather(*(guard.check() for several in self._guards.values() for guard in several))
        await self._settle()

    async def _watch(self, guard: GuardedScorer) -> None:
        doubt = asyncio.Event()
        guard.on_doubt = doubt.set
        while True:
            await guard.check()
            await self._settle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s if guard.trusted else self._eager_s):
                    await doubt.wait()
            doubt.clear()

    async def _settle(self) -> None:
        """Tell of a change, one at a time."""
        async with self._telling:
            ready = all(any(guard.trusted for guard in several) for several in self._guards.values())
            if ready == self.ready:
                return
            if ready:
                self._ready.set()
            else:
                self._ready.clear()
            await self._tell(ready)


def _said(guard: GuardedScorer) -> str:
    return f"{guard.backend}: {guard.last}" if guard.backend else guard.last
