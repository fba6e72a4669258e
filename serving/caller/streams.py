"""Rankings asked for over some streams instead of a call each, which takes both sides less."""

import asyncio
import itertools
from typing import Any

import grpc

from serving.caller.stream import RankStream, code_of
from serving.errors import DeadlinePassedError, ServingError, UnreachableError
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.status import PUSHBACK, error_of

_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""What a stream ends with that crosses a server's good-bye, or whose connection broke. A ranking changes nothing, so
what had no answer is asked for once more, on a stream that is opened anew and goes to a server that is there."""


class RankStreams:
    """Streams that requests take in turn; each goes on to the next server every few seconds (`LEG_S`)."""

    def __init__(self, channel: grpc.aio.Channel, count: int) -> None:
        self._streams = [RankStream(channel, pb.RankStreamResponse.FromString) for _ in range(count)]
        self._turns = itertools.count()

    async def rank(self, request: pb.RankRequest, timeout_s: float) -> pb.RankResponse:
        """The answer to a request, or the `ServingError` that a call would raise.

        One that is cancelled is answered all the same, and logged where the server has a log.
        """
        stream = self._streams[next(self._turns) % len(self._streams)]
        message, until_s = request.SerializeToString(), asyncio.get_running_loop().time() + timeout_s
        try:
            answer = await _ask(stream, message, until_s)
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code(), error.details() or "", ()) from error
        except ConnectionError as error:
            raise UnreachableError(str(error)) from error
        except TimeoutError:
            raise DeadlinePassedError(f"no answer within {timeout_s:g} s") from None
        if answer.HasField("refusal"):
            raise refused(answer.refusal)
        ranking: pb.RankResponse = answer.ranking
        return ranking

    async def close(self) -> None:
        """End them; what still waits fails."""
        for stream in self._streams:
            await stream.close()


async def _ask(stream: RankStream, message: bytes, until_s: float) -> Any:
    clock = asyncio.get_running_loop().time
    try:
        return await stream.ask(message, until_s - clock())
    except ConnectionError:
        pass
    except grpc.aio.AioRpcError as error:
        if error.code() not in _AGAIN:
            raise
    return await stream.ask(message, max(until_s - clock(), 0.0))


def refused(refusal: pb.Refusal) -> ServingError:
    """What a refusal in a stream means to its caller."""
    advice = ((PUSHBACK, str(refusal.retry_pushback_ms)),) if refusal.HasField("retry_pushback_ms") else ()
    return error_of(code_of(refusal), refusal.message, advice)
