"""One worker's place: whatever becomes of a life, there is a next one. Shells stand for the workers."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.processes.fleet import Fleet
from serving.processes.settings import WorkerSettings
from serving.processes.slot import Patience
from serving.serve import ServeOptions
from serving.worker import WorkerOptions

IMPATIENT = Patience(first_s=0.01, longest_s=0.1, stale_s=0.1, hung_s=0.4, start_s=0.4, mercy_s=1.0)
READY = """echo '{"state": {"ready": true}}'; """
TELLS = f"while :; do {READY} sleep 0.05; done"
Keeping = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    """`async with keeping(life, ...) as fleet`: a fleet of one whose lives are those, then workers that go on telling.

    A life is what a shell does, or the error that its start meets.
    """

    @asynccontextmanager
    async def keep(*first: str | Exception) -> AsyncIterator[Fleet]:
        lives, spawn = [*first], asyncio.create_subprocess_exec

        async def start(*_: str, **options: Any) -> asyncio.subprocess.Process:
            life = lives.pop(0) if lives else TELLS
            if isinstance(life, Exception):
                raise life
            return await spawn("/bin/sh", "-c", life, **options)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        serve = ServeOptions(Path("nowhere"), WorkerOptions(drain_s=0.1))
        fleet = Fleet([WorkerSettings(0, serve, None, "info", {})], IMPATIENT)
        fleet.start()
        try:
            yield fleet
        finally:
            await fleet.stop()

    return keep


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _restarts(fleet: Fleet) -> int:
    restarts: int = fleet.states()[0]["restarts"]
    return restarts


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), RuntimeError("can't start thread")]
)
async def test_a_worker_that_could_not_be_started_is_started_later(
    keeping: Keeping, eventually: Any, error: Exception
) -> None:
    async with keeping(READY, error, error) as fleet:
        await eventually(lambda: fleet.ready and _restarts(fleet) >= 3)
        pid = fleet.states()[0]["pid"]
    assert not _alive(pid)


UNHEARD = {
    "says more than a line holds": "head -c 1100000 /dev/zero; echo; exec sleep 60",
    "says nothing any more, for good": READY + "exec sleep 60 >&-",
    "never says anything": "exec sleep 60",
}


@pytest.mark.parametrize("case", UNHEARD)
async def test_a_worker_that_cannot_be_heard_is_replaced(keeping: Keeping, eventually: Any, case: str) -> None:
    async with keeping(UNHEARD[case]) as fleet:
        await eventually(lambda: fleet.states()[0]["pid"])
        deaf = fleet.states()[0]["pid"]
        await eventually(lambda: fleet.ready and _restarts(fleet) >= 1)
        assert not _alive(deaf)
