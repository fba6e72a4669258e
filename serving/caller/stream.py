"""Many rank requests over one call, each with a deadline of its own."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import grpc

RANK_STREAM = "/exfm.ranking.v1.RankingService/RankStream"
_REQUEST_ID = b"\x0a"
"""Field 1 of a rank request, of which the last one counts: so a number is appended to a message made before."""
_CODES = {number: code for code in grpc.StatusCode for number in code.value[:1]}


class RankStream:
    """A connection's stream, opened with the first request and again after it broke; made and used on one loop."""

    def __init__(self, channel: grpc.aio.Channel, read: Callable[[bytes], Any]) -> None:
        """`read` makes a `RankStreamResponse` of its bytes: the contract's, or its packed twin."""
        self._open: Any = channel.stream_stream(RANK_STREAM, response_deserializer=read)
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._unsent: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._names = (f"{number:x}" for number in itertools.count())
        self._closed = False

    async def ask(self, message: bytes, timeout_s: float, name: str = "") -> Any:
        """The `RankStreamResponse` to a serialised `RankRequest`.

        Args:
            message: the request.
            timeout_s: how long to wait for its answer.
            name: the request id in the message; without one it is replaced by a number.

        Raises:
            ValueError: a request of that name is on its way already.
            TimeoutError: no answer within `timeout_s`, whether or not the connection took the request.
            grpc.aio.AioRpcError: the stream broke.
            ConnectionError: it ended, or was closed, or it broke and nobody knows how.
        """
        if self._closed:
            raise ConnectionError("the stream was closed")
        loop = asyncio.get_running_loop()
        if not name:
            name = next(name for name in self._names if name not in self._waiting)
            message += _REQUEST_ID + bytes((len(name),)) + name.encode()
        if name in self._waiting:
            raise ValueError(f"request_id {name!r} is on its way already")
        answer = self._waiting[name] = loop.create_future()
        timer = loop.call_later(timeout_s, self._give_up, name)
        if self._call is None:
            self._call, self._unsent = self._open(), asyncio.Queue()
            self._reading = asyncio.create_task(self._read(self._call, self._unsent))
        self._unsent.put_nowait((name, message))
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(name, None)

    async def close(self) -> None:
        """End the stream for good; what still waits fails."""
        self._closed = True
        if self._call:
            self._call.cancel()
        if self._reading:
            await asyncio.wait((self._reading,))

    def _give_up(self, name: str) -> None:
        answer = self._waiting.pop(name, None)
        if answer and not answer.done():
            answer.set_exception(TimeoutError())

    async def _write(self, call: Any, unsent: "asyncio.Queue[tuple[str, bytes]]") -> None:
        """A task of its own: to cancel one write, as a deadline would, ends the call for all."""
        # Where the call has broken, what is read of it says how.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                name, message = await unsent.get()
                if name in self._waiting:
                    await call.write(message)

    async def _read(self, call: Any, unsent: "asyncio.Queue[tuple[str, bytes]]") -> None:
        error: Exception = ConnectionError("the stream was closed")
        writing = asyncio.create_task(self._write(call, unsent))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                answer = self._waiting.pop(response.request_id, None)
                if answer and not answer.done():
                    answer.set_result(response)
        except grpc.aio.AioRpcError as failed:
            # Where a write failed before the status was there, the library makes one up.
            made_up = failed.code() is grpc.StatusCode.INTERNAL
            error = ConnectionError("the stream broke") if made_up else failed
        finally:
            writing.cancel()
            self._call = None
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(error)
            await asyncio.wait((writing,))


def code_of(refusal: Any) -> grpc.StatusCode:
    """The status that a call per request would have ended with; UNKNOWN for a number that gRPC doesn't know."""
    return _CODES.get(refusal.code, grpc.StatusCode.UNKNOWN)
