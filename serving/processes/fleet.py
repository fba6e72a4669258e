"""All worker processes of one server."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.errors import StartError
from serving.processes.settings import WorkerSettings
from serving.processes.slot import DEFAULT_PATIENCE, Patience, Slot
from serving.serve import ServeOptions


class Fleet:
    """Workers on one port, each with its share of the limits."""

    def __init__(self, settings: Sequence[WorkerSettings], patience: Patience = DEFAULT_PATIENCE) -> None:
        self._patience = patience
        self._drain_s = settings[0].serve.worker.drain_s
        self._news = asyncio.Event()
        self._slots = [Slot(one, self._news.set, patience) for one in settings]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether any worker is; the others' connections go nowhere else, but new ones find it."""
        return any(slot.ready for slot in self._slots)

    def states(self) -> list[dict[str, Any]]:
        """One per worker, from its last report."""
        return [slot.state() for slot in self._slots]

    def start(self) -> None:
        """Start every worker; they are kept alive from now on."""
        self._tasks = [asyncio.create_task(slot.run()) for slot in self._slots]

    async def wait_ready(self) -> None:
        """Return once every worker is ready.

        Raises:
            StartError: a worker said that it can't begin.
        """
        await self._until(lambda: all(slot.ready for slot in self._slots) or self._failure() != "")
        if failure := self._failure():
            raise StartError(failure)

    async def stop(self) -> None:
        """Drain every worker at the same time; those that don't end are killed."""
        for slot in self._slots:
            slot.stop()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._drain_s + self._patience.mercy_s)
        if late:
            for slot in self._slots:
                slot.kill()
            await asyncio.wait(late)

    def _failure(self) -> str:
        return next((slot.failed for slot in self._slots if slot.failed), "")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.wait()
            self._news.clear()


def settings_for(
    options: ServeOptions,
    workers: int,
    address: str,
    tritons: tuple[str, ...],
    *,
    versions: Mapping[str, int],
    metrics: Path | None,
    log_level: str,
) -> list[WorkerSettings]:
    """The orders of each worker: all listen on `address`, serve `versions`, and have the same share."""
    worker = replace(options.worker, listen=address, reuse_port=True, share=options.worker.share / workers)
    serve = replace(options, worker=worker, tritons=tritons)
    return [WorkerSettings(number, serve, metrics, log_level, versions) for number in range(workers)]
