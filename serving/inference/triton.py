"""Scores with one vertical's model on one Triton server."""

from collections.abc import Sequence

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
"""How long a stream that is not ended may outlive its request, so that a server that hangs doesn't collect them."""


class TritonScorer:
    """A scorer over gRPC with two timers of its own, inside the watchdog's.

    The stream's only ends the wait, and the queue never sees it; the `timeout` parameter only bounds the queue.

    A request that is given up ends its stream, and the server's work on it, unless the server is one that cancellations
    can crash (`TritonEndpoint.cancels`). There the queue's own timer throws out what hasn't begun, which is all that a
    cancellation would have saved; the answer is heard by nobody.

    What is refused over a stream has no status. Where the words don't say that there was no room, it is asked once more
    by a call of its own, so that a status tells who is at fault.
    """

    def __init__(self, endpoint: TritonEndpoint) -> None:
        self._endpoint = endpoint

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`."""
        response = await self._infer(infer_request(query, _remaining_s(until)), until)
        return read_scores(response, query)

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
        """See `BatchScorer.score_together`; the queries' model must take batches whole."""
        response = await self._infer(jagged_request(queries, _remaining_s(until)), until)
        return split_scores(response, queries)

    async def _infer(self, request: service_pb2.ModelInferRequest, until: Deadline) -> service_pb2.ModelInferResponse:
        timeout_s = _remaining_s(until) + (0.0 if self._endpoint.cancels else LINGER_S)
        try:
            answer = await self._endpoint.infer(request, timeout_s)
        except TimeoutError:
            raise LateError("Triton: no answer in time") from None
        except ConnectionError as error:
            raise UnavailableError(f"Triton: {error}") from error
        if not answer.error_message:
            return answer.infer_response
        if _says_no_room(answer.error_message):
            raise BusyError(f"Triton: {answer.error_message}")
        try:
            return await self._endpoint.infer_alone(request, _remaining_s(until))
        except grpc.aio.AioRpcError as error:
            raise backend_error(error.code(), error.details() or "") from error


def _remaining_s(until: Deadline) -> float:
    remaining_s = until.remaining_s()
    if remaining_s <= 0:
        raise LateError("no time left for the call")
    return remaining_s


def backend_error(code: grpc.StatusCode, details: str) -> BackendError:
    """What a failed call to Triton means to the ladder."""
    text = f"Triton: {code.name}: {details}"
    if code is grpc.StatusCode.UNAVAILABLE and _says_no_room(details):
        return BusyError(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LateError(text)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.NOT_FOUND):
        return UnavailableError(text)
    return BadScoresError(text)


def _says_no_room(text: str) -> bool:
    return any(words in text.lower() for words in _NO_ROOM)
