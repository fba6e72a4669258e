"""Keeps the embedded Triton alive: one that died is started again, ever more slowly if it keeps dying."""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Supervised(Protocol):
    """A server process whose `start` blocks until it is ready."""

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        ...

    def start(self) -> None:
        """Start, and wait until ready; raises if it can't."""
        ...


class Supervisor:
    """Watches one server process. Whether it scores right is the canaries' business."""

    def __init__(self, server: Supervised, poll_s: float = 0.1, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        """Prepare.

        Args:
            server: a started server.
            poll_s: between looks, seconds.
            first_s: pause before the second attempt in a row; it doubles with each failure.
            longest_s: the longest pause.
        """
        self._server = server
        self._poll_s = poll_s
        self._first_s = first_s
        self._longest_s = longest_s
        self.restarts = 0

    async def run(self) -> None:
        """Watch for ever; ends by cancellation, after a start in progress has ended."""
        while True:
            await asyncio.sleep(self._poll_s)
            if not self._server.running:
                await self._restart()

    async def _restart(self) -> None:
        pause_s = self._first_s
        while not self._server.running:
            log.warning("Triton has ended; starting it again")
            start = asyncio.ensure_future(asyncio.to_thread(self._server.start))
            try:
                await asyncio.shield(start)
                self.restarts += 1
            except asyncio.CancelledError:
                # Whoever cancels will stop the server next; not before this start is over.
                await asyncio.wait((start,))
                if not start.cancelled() and (error := start.exception()):
                    log.info("Triton's start was cut short: %s", error)
                raise
            except Exception as error:
                log.error("Triton did not start: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._longest_s)
