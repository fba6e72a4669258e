"""One worker's place: a process in it, started again when it ends or hangs, and what it last said."""

import asyncio
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from serving.budget.clock import MONOTONIC, Clock
from serving.processes.report import read_report
from serving.processes.settings import WorkerSettings

log = logging.getLogger(__name__)

_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Patience:
    """How long is waited for what, seconds.

    Attributes:
        first_s: before the second attempt in a row to start a worker; it doubles with each failure.
        longest_s: the longest pause.
        stale_s: a worker that hasn't reported for that long isn't up.
        hung_s: a worker that hasn't reported for that long is killed and started again.
        start_s: the same, for a worker that hasn't reported yet.
        mercy_s: between the end of a worker's drain and SIGKILL.
    """

    first_s: float = 0.1
    longest_s: float = 10.0
    stale_s: float = 1.0
    hung_s: float = 10.0
    start_s: float = 60.0
    mercy_s: float = 2.0


DEFAULT_PATIENCE = Patience()


class Slot:
    """Keeps one worker process alive. Reading what it said never waits for it."""

    def __init__(
        self, settings: WorkerSettings, changed: Callable[[], None], patience: Patience, clock: Clock = MONOTONIC
    ) -> None:
        """Prepare; `changed` is called after each report."""
        self._settings = settings
        self._changed = changed
        self._patience = patience
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._said: dict[str, Any] = {}
        self._heard_s = clock()
        self._stop = asyncio.Event()
        self.restarts = 0
        self.was_ready = False
        self.failed = ""

    @property
    def up(self) -> bool:
        """Whether the worker lives and has reported lately."""
        return bool(self._said) and self._age_s() < self._patience.stale_s

    @property
    def ready(self) -> bool:
        """Whether it is up and trusts every canary."""
        return self.up and bool(self._said["ready"])

    def state(self) -> dict[str, Any]:
        """For `/state`."""
        return {
            "worker": self._settings.number,
            "pid": self._process.pid if self._process else 0,
            "up": self.up,
            "ready": self.ready,
            "restarts": self.restarts,
            "heard_s_ago": round(self._age_s(), 3),
            "state": self._said,
        }

    async def run(self) -> None:
        """Keep a worker running; returns after `stop`, once it has ended."""
        pause_s = self._patience.first_s
        while not self._stop.is_set():
            try:
                await self._live()
            except Exception:  # as a rule there is no memory, process or file left for one more
                log.exception("worker %d can't be run", self._settings.number)
            if self._stop.is_set():
                return
            # One that had served is replaced at once; one that can't begin is given ever more time.
            pause_s = self._patience.first_s if self.was_ready else min(2 * pause_s, self._patience.longest_s)
            log.warning("worker %d has ended; starting it again in %.1f s", self._settings.number, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            if not self._stop.is_set():
                self.restarts += 1
                self._settings = replace(self._settings, serve=replace(self._settings.serve, ready_s=float("inf")))

    def stop(self) -> None:
        """Ask the worker to drain; `run` sees to it that it ends."""
        self._stop.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the worker now."""
        self._signal(signal.SIGKILL)

    async def _live(self) -> None:
        """One process's life, from its start to its end; raises what keeps it from starting."""
        self._process, self._said, self._heard_s, self.was_ready = None, {}, self._clock(), False
        self._process = await _spawn(self._settings)
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        following = asyncio.create_task(self._follow(self._process))
        try:
            while not following.done():
                await asyncio.wait((following,), timeout=self._patience.stale_s)
                self._end_if_hung()
            following.result()
        finally:
            following.cancel()
            self._said = {}
            self._changed()

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Listen to a process until it ends. One that says what nobody can read is of no use, and is killed."""
        try:
            await self._listen(process)
        except Exception:
            log.exception("worker %d can't be understood; killing it", self._settings.number)
            self.kill()
        await process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            report = read_report(line)
            self.failed = str(report.get("failed", ""))
            if isinstance(state := report.get("state"), dict):
                self._said, self._heard_s = state, self._clock()
                self.was_ready = self.was_ready or bool(state.get("ready"))
            self._changed()

    def _end_if_hung(self) -> None:
        limit_s = self._patience.hung_s if self._said else self._patience.start_s
        if self._age_s() > limit_s and not self._stop.is_set():
            log.error("worker %d has said nothing for %.0f s; killing it", self._settings.number, self._age_s())
            self.kill()

    def _age_s(self) -> float:
        return self._clock() - self._heard_s

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


async def _spawn(settings: WorkerSettings) -> asyncio.subprocess.Process:
    """A fresh interpreter, for gRPC doesn't survive a fork; in a process group of its own, so that ^C is the parent's.

    Not in a session: the kernel may share the processor out among sessions first, and the embedded Triton's place is
    behind the workers, not beside them.

    It finds modules where this process does, and nowhere else (-P).
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "serving.processes.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        process_group=0,
        limit=_LINE_BYTES,
    )
    assert process.stdin
    with suppress(ConnectionError):
        process.stdin.write(pickle.dumps(settings))
        await process.stdin.drain()
    return process
