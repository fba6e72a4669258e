"""Several `exfm-serve` on this machine that share what their arguments name, and a load with events in its midst."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtest.driving.server_process import ServerProcess, running
from loadtest.driving.target import Reply, Target
from serving.embedded.environment import ensure
from serving.embedded.process import LOOPBACK, EmbeddedTriton, TritonOptions
from serving.repository import load_catalog, triton_configs

Event = Callable[["Eventful"], Awaitable[None]]


@contextmanager
def triton(repository: Path, log: Path, host: str = LOOPBACK) -> Iterator[str]:
    """host:port of a Triton that no server has started."""
    configs = triton_configs(repository, load_catalog(repository))
    with EmbeddedTriton(ensure(), repository, configs, log, TritonOptions(host=host)) as server:
        yield server.address


class Fleet:
    """Servers on ports of their own; each may be killed and started again."""

    def __init__(self, folder: Path, repository: Path, arguments: Sequence[str], ports: Sequence[int]) -> None:
        self._folder, self._repository, self._arguments = folder, repository, list(arguments)
        self.ports = list(ports)
        self._stacks = [ExitStack() for _ in self.ports]
        self._servers: dict[int, ServerProcess] = {}

    @property
    def addresses(self) -> list[str]:
        """Of each server."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def start(self, number: int) -> None:
        """Start one that doesn't run, and wait until it is ready."""
        self._stacks[number].close()
        log = self._folder / f"serve{number}.log"
        arguments = [*self._arguments, "--listen", self.addresses[number]]
        self._servers[number] = self._stacks[number].enter_context(running(self._repository, log, arguments))

    def pid(self, number: int) -> int:
        """Of the process that serves there."""
        return self._servers[number].pid

    def kill(self, number: int) -> None:
        """`kill -9`."""
        os.kill(self.pid(number), signal.SIGKILL)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with ThreadPoolExecutor(len(self.ports)) as pool:
                list(pool.map(self.start, range(len(self.ports))))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for stack in self._stacks:
            stack.close()


class Eventful:
    """A target to whose requests things happen: with request `i` that of `events[i]` begins.

    Attributes:
        sent: requests so far.
    """

    def __init__(self, target: Target, events: Mapping[int, Event]) -> None:
        self._target, self._events = target, events
        self._happening: list[asyncio.Future[None]] = []
        self.sent = 0

    async def send(self, index: int, timeout_s: float) -> Reply:
        """Send the target's request `index`."""
        self.sent += 1
        if event := self._events.get(index):
            self._happening.append(asyncio.ensure_future(event(self)))
        return await self._target.send(index, timeout_s)

    async def settled(self) -> None:
        """Wait for what has begun; raises what went wrong."""
        await asyncio.gather(*self._happening)
