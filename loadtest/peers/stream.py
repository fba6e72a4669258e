"""Many rank requests over one call, each with a deadline of its own."""

import asyncio
import itertools
from typing import Any

import grpc

from loadtest.driving.rank_target import SERVICE
from serving.rpc import packed

RANK_STREAM = SERVICE + "RankStream"
_REQUEST_ID = b"\x0a"
"""Field 1 of a rank request, of which the last one counts: so a number is appended to a message made before."""


class RankStream:
    """A connection's stream, opened with the first request and again after it broke; made and used on one loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # As cheaply as the other systems' answers are read: what this takes, the machine's servers don't have.
        read = packed.RankStreamResponse.FromString
        self._open: Any = channel.stream_stream(RANK_STREAM, response_deserializer=read)
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()

    async def ask(self, message: bytes, timeout_s: float) -> Any:
        """The packed `RankStreamResponse` to a serialised `RankRequest`, whose request id is replaced.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            grpc.aio.AioRpcError: the stream broke.
        """
        loop = asyncio.get_running_loop()
        name = f"{next(self._numbers):x}"
        answer = self._waiting[name] = loop.create_future()
        timer = loop.call_later(timeout_s, self._give_up, name)
        try:
            async with self._writing:  # gRPC takes one message of a call at a time
                if self._call is None:
                    self._call = self._open()
                    self._reading = asyncio.create_task(self._read(self._call))
                await self._call.write(message + _REQUEST_ID + bytes((len(name),)) + name.encode())
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(name, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at: it was given up while it was written, and so was this call

    def close(self) -> None:
        """End the stream; what still waits fails."""
        if self._call:
            self._call.cancel()

    def _give_up(self, name: str) -> None:
        answer = self._waiting.pop(name, None)
        if answer and not answer.done():
            answer.set_exception(TimeoutError())

    async def _read(self, call: Any) -> None:
        error: Exception = ConnectionError("the stream was closed")
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                answer = self._waiting.pop(response.request_id, None)
                if answer and not answer.done():
                    answer.set_result(response)
        except grpc.aio.AioRpcError as failed:
            error = failed
        finally:
            self._call = None
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(error)
