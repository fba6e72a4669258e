"""Inferences over streams that stay open: one at a time on each, so as many streams as inferences at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
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
        self._closing: asyncio.Task[None] | None = None
        self.usable = True
        self._reading = asyncio.create_task(self._read())
        self._lasting = asyncio.get_running_loop().call_later(LASTS_S, self.leave)

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float, cancels: bool
    ) -> service_pb2.ModelStreamInferResponse:
        """Make an inference.

        One that is given up ends the stream with it if the server `cancels`; if not, the stream is free again once the
        answer has come. (A request that isn't written by then ends its stream in any case, as the library has it.)

        Raises:
            TimeoutError: no answer within `timeout_s`; the stream is ended.
            ConnectionError: the stream broke; Triton itself says in an answer what is wrong with a request.
        """
        loop = asyncio.get_running_loop()
        self._answer = answer = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._expire, answer)
        try:
            await self._write(request, answer)
            response: service_pb2.ModelStreamInferResponse = await answer
        except asyncio.CancelledError:
            answer.cancel()
            if cancels:
                self._call.cancel()
            raise
        return response

    def leave(self) -> None:
        """Be used no more, and end with the answer that is on its way."""
        self.usable = False
        self._lasting.cancel()
        if self._answer is None and self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _write(self, request: service_pb2.ModelInferRequest, answer: "asyncio.Future[Any]") -> None:
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it has ended; the reader hears how
        except asyncio.CancelledError:
            if not answer.done():  # else the call was cancelled when the time was over, and not whoever waits
                raise

    async def _close(self) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has ended already
            await self._call.done_writing()

    def _expire(self, answer: "asyncio.Future[Any]") -> None:
        if not answer.done():
            answer.set_exception(TimeoutError())
        self._call.cancel()

    async def _read(self) -> None:
        why = "the stream ended"
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if answer := self._taken():
                    answer.set_result(response)
                if self.usable:
                    self._freed(self)
                else:
                    self.leave()
        except grpc.aio.AioRpcError as error:
            why = f"{error.code().name}: {error.details()}"
        finally:
            self.usable = False
            self._lasting.cancel()
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

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float, cancels: bool
    ) -> service_pb2.ModelStreamInferResponse:
        """See `InferStream.infer`."""
        return await self._next().infer(request, timeout_s, cancels)

    def leave(self) -> None:
        """End those that are free."""
        for stream in self._free:
            stream.leave()

    def _next(self) -> InferStream:
        while self._free:
            if (stream := self._free.pop()).usable:
                return stream
        return InferStream(self._begin(), self._free.append)
