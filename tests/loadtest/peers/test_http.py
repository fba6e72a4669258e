import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from loadtest.peers.caller import RefusedError
from loadtest.peers.http import HttpCaller, HttpError

SCORES = np.array([[0.25], [0.5]], "<f4")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + SCORES.tobytes()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%s\r\n" % (len(part), part) for part in (SCORES.tobytes()[:3], SCORES.tobytes()[3:], b"")
)
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
SILENCE = b""

Script = Callable[[int], bytes]


class Server:
    """Answers request n of all with `script(n)`; counts connections and the bytes of bodies."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = self.requests = 0
        self.bodies: list[bytes] = []
        self.by_connection: Counter[int] = Counter()
        self.tasks: list[asyncio.Task[None] | None] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                writer.write(self.script(self.requests))
                self.requests += 1
                self.by_connection[number] += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(script: Script, bodies: tuple[bytes, ...] = (b"ab",)) -> AsyncIterator[tuple[Server, HttpCaller]]:
    server = Server(script)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    caller = HttpCaller("127.0.0.1", listening.sockets[0].getsockname()[1], "/score", bodies, tasks=1)
    try:
        yield server, caller
    finally:
        await caller.close()
        listening.close()
        # Without its clients each handler ends by itself; a cancelled one would be reported as an error.
        await asyncio.wait([task for task in server.tasks if task], timeout=5.0)


@pytest.mark.parametrize("answer", [OK, CHUNKED])
async def test_one_connection_serves_one_request_after_the_other(answer: bytes) -> None:
    async with serving(lambda _: answer, (b"first", b"second")) as (server, caller):
        for index in range(4):
            tier, probability = await caller.ask(index, 1.0)
            assert tier == "full"
            np.testing.assert_array_equal(probability, SCORES)
        assert server.connections == 1
        assert server.bodies == [b"first", b"second"] * 2


async def test_requests_at_once_get_connections_of_their_own() -> None:
    async with serving(lambda _: OK) as (server, caller):
        await asyncio.gather(*(caller.ask(index, 1.0) for index in range(8)))
        assert server.connections == 8
        await asyncio.gather(*(caller.ask(index, 1.0) for index in range(8)))
        assert server.connections == 8


async def test_a_connection_that_the_server_wants_closed_is_not_used_again() -> None:
    async with serving(lambda _: CLOSING) as (server, caller):
        await caller.ask(0, 1.0)
        await caller.ask(1, 1.0)
        assert server.connections == 2


async def test_a_request_without_an_answer_costs_its_connection_and_no_other_request() -> None:
    async with serving(lambda n: SILENCE if n == 0 else OK) as (server, caller):
        with pytest.raises(TimeoutError):
            await caller.ask(0, 0.05)
        np.testing.assert_array_equal((await caller.ask(1, 1.0))[1], SCORES)
        assert server.connections == 2


@pytest.mark.parametrize("status", [b"503 Busy", b"429 Too Many"])
async def test_a_full_server_refuses(status: bytes) -> None:
    async with serving(lambda _: b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status) as (_, caller):
        with pytest.raises(RefusedError):
            await caller.ask(0, 1.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops", "HTTP 500: oops"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "3 bytes are no float32 scores"),
    ],
)
async def test_errors_say_what_came(answer: bytes, words: str) -> None:
    async with serving(lambda _: answer) as (_, caller):
        with pytest.raises(HttpError, match=words):
            await caller.ask(0, 1.0)


async def test_connections_take_turns() -> None:
    async with serving(lambda _: OK) as (server, caller):
        await asyncio.gather(*(caller.ask(index, 1.0) for index in range(3)))
        for index in range(6):
            await caller.ask(index, 1.0)
        assert server.by_connection == {0: 3, 1: 3, 2: 3}
