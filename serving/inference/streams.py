"""Inferences over streams that stay open: one at a time on each, so as many streams as inferences at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

LASTS_S = 5.0
"""How long a stream is used: a server that is told to end waits for the streams it has, and a balancer before several
servers leaves a stream with one of them."""


class InferStream:
    """One `ModelStreamInfer` call, for one inference at a time.

    Attributes:
        usable: whether the next inference may go over it once it is free.
    """

    def __init__(self, call: Any, freed: Callable[["InferStream"], None]) -> None:
        """Free from the start; `freed` is told when it is again."""
        self._call, self._freed = call, freed
        self._answer: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self.usable = True
        self._reading = asyncio.create_task(self._read())
        self._lasting = asyncio.get_running_loop().call_later(LASTS_S, self.leave)

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float, cancels: bool
    ) -> service_pb2.ModelStreamInferResponse:
        """Make an inference.

        One that is given up ends the stream with it if the server `cancels`; if not, the stream is free again once the
        answer has come.

        Raises:
            TimeoutError: no answer within `timeout_s`; the stream is ended.
            ConnectionError: the stream broke; Triton itself says in an answer what is wrong with a request.
        """
        loop = asyncio.get_running_loop()
        self._answer = answer = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._expire, answer)
        # A task of its own, for a write waits until there is a connection, and nothing then ends the wait.
        self._writing = asyncio.create_task(self._write(lambda: self._call.write(request)))
        try:
            response: service_pb2.ModelStreamInferResponse = await answer
        except asyncio.CancelledError:
            if cancels:
                self._end()
            raise
        return response

    def leave(self) -> None:
        """Be used no more, and end with the answer that is on its way."""
        self.usable = False
        self._lasting.cancel()
        if self._answer is None:
            self._writing = asyncio.create_task(self._write(self._call.done_writing))

    async def _write(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()  # made here, for a task may be cancelled before it has begun
        except Exception:  # whatever it is, nothing more can be written; the reader hears how it ended
            self._end()

    def _end(self) -> None:
        self.usable = False
        self._call.cancel()
        if self._writing and self._writing is not asyncio.current_task():
            self._writing.cancel()

    def _expire(self, answer: "asyncio.Future[Any]") -> None:
        if not answer.done():
            answer.set_exception(TimeoutError())
        self._end()

    async def _read(self) -> None:
        why = "the stream ended"
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if self._answer is None:  # not of ours, and what comes next might be taken for another's
                    why = "an answer that nobody asked for"
                    break
                if answer := self._taken():
                    answer.set_result(response)
                if self._writing and not self._writing.done():  # the answer may be known of before that is
                    await asyncio.wait((self._writing,))
                if self.usable:
                    self._freed(self)
                else:
                    self.leave()
        except grpc.aio.AioRpcError as error:
            why = f"{error.code().name}: {error.details()}"
        finally:
            self._lasting.cancel()
            self._end()
            if answer := self._taken():
                answer.set_exception(ConnectionError(why))

    def _taken(self) -> "asyncio.Future[Any] | None":
        """The answer that is still waited for; none is from now on."""
        answer, self._answer = self._answer, None
        if self._timer:
            self._timer.cancel()
        return None if answer is None or answer.done() else answer


class InferStreams:
    """The streams to one server."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        """None yet; `begin` makes a `ModelStreamInfer` call."""
        self._begin = begin
        self._free: list[InferStream] = []
        self._left = False

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float, cancels: bool
    ) -> service_pb2.ModelStreamInferResponse:
        """See `InferStream.infer`."""
        return await self._next().infer(request, timeout_s, cancels)

    def leave(self) -> None:
        """End those that are free, and the others with the answers that are on their way."""
        self._left = True
        for stream in self._free:
            stream.leave()

    def _next(self) -> InferStream:
        while self._free:
            if (stream := self._free.pop()).usable:
                return stream
        return InferStream(self._begin(), self._freed)

    def _freed(self, stream: InferStream) -> None:
        if self._left:
            stream.leave()
        else:
            self._free.append(stream)
