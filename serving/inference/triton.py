"""Scores with one vertical's model on one Triton server."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from serving.budget.deadline import Deadline
from serving.errors import BackendError, BadScoresError, BusyError, LateError, UnavailableError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.scorer import Scores
from serving.inference.wire import infer_request, jagged_request, read_scores, split_scores
from serving.query import RankQuery

# Triton says UNAVAILABLE for a full queue and for time that ran out in it, too; only its words tell them apart.
_NO_ROOM = ("exceeds maximum queue size", "request timeout expired")


LINGER_S = 1.0
"""How long a call that is not cancelled may outlive its request, so that a server that hangs doesn't collect them."""


class TritonScorer:
    """A scorer over gRPC with two timers of its own, inside the watchdog's.

    The gRPC deadline only cancels, and the queue never sees it; the `timeout` parameter only bounds the queue. Neither
    ends a call to a server that hangs while its kernel still takes bytes: that is the watchdog's part.

    A request that is given up cancels its call, unless the server is one that cancellations can crash
    (`TritonEndpoint.cancels`). There the queue's own timer throws out what hasn't begun, which is all that a
    cancellation would have saved; the call's end is heard by nobody.
    """

    def __init__(self, endpoint: TritonEndpoint) -> None:
        self._endpoint = endpoint

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`."""
        remaining_s = _remaining_s(until)
        return read_scores(await self._infer(infer_request(query, remaining_s), remaining_s), query)

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
        """See `BatchScorer.score_together`; the queries' model must take batches whole."""
        remaining_s = _remaining_s(until)
        return split_scores(await self._infer(jagged_request(queries, remaining_s), remaining_s), queries)

    async def _infer(
        self, request: service_pb2.ModelInferRequest, remaining_s: float
    ) -> service_pb2.ModelInferResponse:
        cancels = self._endpoint.cancels
        timeout_s = remaining_s if cancels else remaining_s + LINGER_S
        call = self._endpoint.infer(request, timeout_s)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call.add_done_callback(partial(_tell, ended))
        try:
            # Not the call itself, which a cancelled await cancels.
            await ended
            return await call
        except asyncio.CancelledError:
            if cancels:
                call.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            raise backend_error(error.code(), error.details() or "") from error


def _remaining_s(until: Deadline) -> float:
    remaining_s = until.remaining_s()
    if remaining_s <= 0:
        raise LateError("no time left for the call")
    return remaining_s


def _tell(ended: asyncio.Future[None], _: Any) -> None:
    if not ended.done():
        ended.set_result(None)


def backend_error(code: grpc.StatusCode, details: str) -> BackendError:
    """What a failed call to Triton means to the ladder."""
    text = f"Triton: {code.name}: {details}"
    if code is grpc.StatusCode.UNAVAILABLE and any(words in details.lower() for words in _NO_ROOM):
        return BusyError(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LateError(text)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.NOT_FOUND):
        return UnavailableError(text)
    return BadScoresError(text)
