"""One call of a stream of rank requests, from its opening to its end."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

MOST = 32
"""Requests on their way at once, which is what a server works on of one stream: any more would wait unseen."""
_STAMP, _NUMBER, _TIMEOUT_US = struct.Struct("<BQBQ"), 9 << 3 | 1, 10 << 3 | 1
"""Two fields of a rank request, of which the last one counts: so they are appended to a message made before."""


@dataclass(eq=False)
class Asked:
    """A request that waits for its answer.

    Attributes:
        number: its own on the stream.
        message: the serialised request.
        until_s: when it is given up, in the loop's time.
        answer: a `RankStreamResponse`.
    """

    number: int
    message: bytes
    until_s: float
    answer: "asyncio.Future[Any]"

    def fail(self, error: Exception) -> None:
        """Without an answer."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def stamped(self, now_s: float) -> bytes:
        """The message with its number and what is left of its time."""
        left_us = max(int((self.until_s - now_s) * 1e6), 1)
        return self.message + _STAMP.pack(_NUMBER, self.number, _TIMEOUT_US, left_us)


class Leg:
    """The requests of one call.

    Attributes:
        ended: no answer comes any more; whoever waited has been told why.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._unsent: dict[int, Asked] = {}
        self._sent: dict[int, Asked] = {}
        self._more = asyncio.Event()
        self._finishing = self.ended = self._made_up = False
        self._reading = asyncio.create_task(self._read())

    def send(self, asked: Asked) -> None:
        """Have it written when there is room for it."""
        self._unsent[asked.number] = asked
        self._more.set()

    def forget(self, asked: Asked) -> None:
        """It has its answer, or is given up; if it isn't written yet, it won't be."""
        self._unsent.pop(asked.number, None)
        if self._sent.pop(asked.number, None):
            self._made_room()

    def finish(self, left: Callable[["Leg"], None]) -> None:
        """End once all that was sent is answered, and say so to `left`."""
        self._finishing = True
        self._more.set()
        self._reading.add_done_callback(lambda _: left(self))

    async def close(self) -> None:
        """End at once; what still waits fails."""
        self._call.cancel()
        await asyncio.wait((self._reading,))

    def _made_room(self) -> None:
        if self._unsent or self._finishing:
            self._more.set()

    async def _write(self) -> None:
        """A task of its own: to cancel one write, as a deadline would, ends the call for all."""
        while not self._finishing or self._unsent or self._sent:
            if self._unsent and len(self._sent) < MOST:
                asked = self._unsent.pop(next(iter(self._unsent)))
                self._sent[asked.number] = asked
                await self._call.write(asked.stamped(asyncio.get_running_loop().time()))
            else:
                self._more.clear()
                await self._more.wait()
        await self._call.done_writing()

    async def _try_writing(self) -> None:
        try:
            await self._write()
        except grpc.aio.AioRpcError as error:
            # Where a write fails before the status is there, the library makes one up, which is read next.
            self._made_up = error.code() is grpc.StatusCode.INTERNAL
        except asyncio.InvalidStateError:
            pass  # the call has ended; what is read of it says how

    async def _read(self) -> None:
        error: Exception = ConnectionError("the stream ended")
        writing = asyncio.create_task(self._try_writing())
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                asked = self._sent.pop(response.number, None)
                if asked and not asked.answer.done():
                    asked.answer.set_result(response)
                self._made_room()
        except grpc.aio.AioRpcError as failed:
            error = ConnectionError(f"the stream broke: {failed.details()}") if self._made_up else failed
        finally:
            self.ended = True
            writing.cancel()
            waiting = [*self._sent.values(), *self._unsent.values()]
            self._sent, self._unsent = {}, {}
            for asked in waiting:
                asked.fail(error)
            await asyncio.wait((writing,))
