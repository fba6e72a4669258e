"""Readiness: the server is ready while every vertical's canary is trusted."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from serving.inference.guard import GuardedScorer

log = logging.getLogger(__name__)


class Readiness:
    """Sends every vertical's canary again and again, and tells of changes."""

    def __init__(
        self,
        guards: Mapping[str, GuardedScorer],
        tell: Callable[[bool], Awaitable[None]],
        interval_s: float = 1.0,
        eager_s: float = 0.1,
    ) -> None:
        """Prepare.

        Args:
            guards: by vertical.
            tell: called with the new state whenever it changes; the first state is False and isn't told.
            interval_s: between rounds while ready, seconds.
            eager_s: between rounds while not ready.
        """
        self._guards = dict(guards)
        self._tell = tell
        self._interval_s = interval_s
        self._eager_s = eager_s
        self._ready = asyncio.Event()
        self._doubt = asyncio.Event()
        for guard in self._guards.values():
            guard.on_doubt = self._doubt.set
        self.last: dict[str, str] = {}

    @property
    def ready(self) -> bool:
        """Whether every canary is trusted."""
        return self._ready.is_set()

    async def wait(self) -> None:
        """Return once ready."""
        await self._ready.wait()

    async def run(self) -> None:
        """Check for ever; ends by cancellation."""
        while True:
            await self.round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s if self.ready else self._eager_s):
                    await self._doubt.wait()
            self._doubt.clear()

    async def round(self) -> None:
        """Check every vertical once, all at the same time."""
        sightings = await asyncio.gather(*(guard.check() for guard in self._guards.values()))
        for name, sighting in zip(self._guards, sightings, strict=True):
            self.last[name] = f"{sighting.finding.value}: {sighting.detail}"
        ready = all(guard.trusted for guard in self._guards.values())
        if ready == self.ready:
            return
        if ready:
            self._ready.set()
        else:
            self._ready.clear()
        await self._tell(ready)
