"""Calls a peer over HTTP/1.1: raw bytes both ways, connections kept open and as many as are needed at once.

Connections take turns. A peer with several worker processes gives each connection to one of them for good; were the
last used connection taken first, little load would all be one process's while the others idle.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import h11
import numpy as np

from loadtest.checking.outcomes import Outcome
from loadtest.peers.caller import Probability, RefusedError

READ_BYTES = 1 << 18
REFUSALS = (429, 503)
"""Statuses by which a server says that it is full."""


class HttpError(RuntimeError):
    """The server answered with an error, or not in HTTP."""


class HttpCaller:
    """A caller of one path; what isn't answered in time costs its connection, as it does an ad server."""

    def __init__(self, host: str, port: int, path: str, bodies: Sequence[bytes], tasks: int) -> None:
        self._host, self._port, self._tasks = host, port, tasks
        self._messages = [(_head(f"{host}:{port}", path, len(body)), h11.Data(data=body)) for body in bodies]
        self._idle: deque[_Connection] = deque()

    async def ask(self, index: int, timeout_s: float) -> tuple[str, Probability]:
        """See `Caller.ask`."""
        async with asyncio.timeout(timeout_s):
            connection = self._take() or await _Connection.open(self._host, self._port)
            try:
                status, answer = await connection.exchange(*self._messages[index % len(self._messages)])
            except BaseException:
                connection.close()
                raise
        self._give_back(connection)
        if status in REFUSALS:
            raise RefusedError(f"HTTP {status}")
        if status != 200:
            raise HttpError(f"HTTP {status}: {answer[:200].decode(errors='replace')}")
        return Outcome.FULL, _scores(answer, self._tasks)

    async def close(self) -> None:
        """See `Caller.close`."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.popleft()
            if connection.alive:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: "_Connection") -> None:
        if connection.reusable():
            self._idle.append(connection)
        else:
            connection.close()


class _Connection:
    """One connection; one exchange at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._state = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, host: str, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection(host, port, limit=READ_BYTES))

    @property
    def alive(self) -> bool:
        """Whether the server hasn't closed it meanwhile."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def exchange(self, head: h11.Request, body: h11.Data) -> tuple[int, bytes]:
        """Send a request; status and body of the answer."""
        state = self._state
        parts = [state.send_with_data_passthrough(event) or [] for event in (head, body, h11.EndOfMessage())]
        self._writer.writelines([piece for part in parts for piece in part])
        status, pieces = 0, []
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.ConnectionClosed):
                raise HttpError("the server closed the connection")
        return status, b"".join(pieces)

    def reusable(self) -> bool:
        """Make ready for the next exchange; False if the server wants the connection closed."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return self.alive

    def close(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def _next(self) -> object:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            self._state.receive_data(await self._reader.read(READ_BYTES))
        return event


def _head(host: str, path: str, length: int) -> h11.Request:
    headers = [("Host", host), ("Content-Type", "application/octet-stream"), ("Content-Length", str(length))]
    return h11.Request(method="POST", target=path, headers=headers)


def _scores(answer: bytes, tasks: int) -> Probability:
    if len(answer) % (4 * tasks):
        raise HttpError(f"{len(answer)} bytes are no float32 scores of {tasks} tasks")
    return np.frombuffer(answer, "<f4").reshape(-1, tasks)
