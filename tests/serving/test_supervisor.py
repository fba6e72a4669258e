import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from serving.supervisor import Supervisor


class Server:
    """Dies when told, and fails to start as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.running = True
        self.failures = failures
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        if self.failures:
            self.failures -= 1
            raise RuntimeError("port taken")
        self.running = True


async def test_a_server_that_died_is_started_again(eventually: Callable[..., Any]) -> None:
    server = Server()
    supervisor = Supervisor(server, poll_s=0.001, first_s=0.001)
    running = asyncio.create_task(supervisor.run())
    for count in (1, 2):
        server.running = False
        await eventually(lambda wanted=count: supervisor.restarts == wanted and server.running)
    running.cancel()


async def test_failed_starts_are_repeated_and_logged(
    eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(failures=3)
    supervisor = Supervisor(server, poll_s=0.001, first_s=0.001, longest_s=0.002)
    running = asyncio.create_task(supervisor.run())
    server.running = False
    await eventually(lambda: server.running)
    assert server.starts == 4
    assert caplog.text.count("port taken") == 3
    running.cancel()


async def test_cancelling_waits_for_a_start_in_progress() -> None:
    begun, finish = threading.Event(), threading.Event()

    class Slow(Server):
        def start(self) -> None:
            begun.set()
            finish.wait(5)
            super().start()

    server = Slow()
    server.running = False
    running = asyncio.create_task(Supervisor(server, poll_s=0.001).run())
    await asyncio.to_thread(begun.wait, 5)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    finish.set()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert server.starts == 1
