"""Many rank requests over one call, each with a deadline of its own."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import grpc

from serving.caller.leg import Asked, Leg

RANK_STREAM = "/exfm.ranking.v1.RankingService/RankStream"
LEG_S = 5.0
"""How long a stream stays with one server: one that comes back, or came later, has its share again after that."""
_CODES = {number: code for code in grpc.StatusCode for number in code.value[:1]}


class RankStream:
    """A stream of requests, opened with the first one and again after it broke or has had its time.

    Made and used on one loop. Requests are told apart by numbers of its own, whatever ids they have.
    """

    def __init__(self, channel: grpc.aio.Channel, read: Callable[[bytes], Any], leg_s: float = LEG_S) -> None:
        """A stream that isn't open yet.

        Args:
            channel: to the server, or to several.
            read: makes a `RankStreamResponse` of its bytes: the contract's, or its packed twin.
            leg_s: after so many seconds the next request opens another call; the old one ends with its last answer.
        """
        self._open: Any = channel.stream_stream(RANK_STREAM, response_deserializer=read)
        self._leg_s = leg_s
        self._leg: Leg | None = None
        self._leaving: set[Leg] = set()
        self._until_s = 0.0
        self._numbers = itertools.count(1)
        self._closed = False

    async def ask(self, message: bytes, timeout_s: float) -> Any:
        """The `RankStreamResponse` to a serialised `RankRequest`.

        Args:
            message: the request; its number and its timeout are replaced.
            timeout_s: how long to wait for its answer, which the server is told.

        Raises:
            TimeoutError: no answer within `timeout_s`, whether or not the connection took the request.
            grpc.aio.AioRpcError: the call broke.
            ConnectionError: it ended, or was closed, or it broke and nobody knows how.
        """
        if self._closed:
            raise ConnectionError("the stream was closed")
        loop = asyncio.get_running_loop()
        asked = Asked(next(self._numbers), message, loop.time() + timeout_s, loop.create_future())
        timer = loop.call_at(asked.until_s, asked.fail, TimeoutError())
        leg = self._current(loop.time())
        leg.send(asked)
        try:
            return await asked.answer
        finally:
            timer.cancel()
            leg.forget(asked)

    async def close(self) -> None:
        """End the stream for good; what still waits fails."""
        self._closed = True
        legs = [*self._leaving, *([self._leg] if self._leg else [])]
        for leg in legs:
            await leg.close()

    def _current(self, now_s: float) -> Leg:
        if self._leg and not self._leg.ended and now_s < self._until_s:
            return self._leg
        if self._leg and not self._leg.ended:
            self._leaving.add(self._leg)
            self._leg.finish(self._leaving.discard)
        self._leg, self._until_s = Leg(self._open()), now_s + self._leg_s
        return self._leg


def code_of(refusal: Any) -> grpc.StatusCode:
    """The status that a call per request would have ended with; UNKNOWN for a number that gRPC doesn't know."""
    return _CODES.get(refusal.code, grpc.StatusCode.UNKNOWN)
