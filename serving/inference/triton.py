"""Scores with one vertical's model on one Triton server."""

from collections.abc import Sequence

from tritonclient.grpc import service_pb2

from serving.budget.deadline import Deadline
from serving.errors import BackendError, BadScoresError, BusyError, LateError, UnavailableError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.scorer import Scores
from serving.inference.wire import infer_request, jagged_request, read_scores, split_scores
from serving.query import RankQuery

_NO_ROOM = ("exceeds maximum queue size", "request timeout expired")
_GONE = ("unknown model", "no available versions", "not ready", "stopping")

LINGER_S = 1.0
"""How long a stream that is not ended may outlive its request, so that a server that hangs doesn't collect them."""


class TritonScorer:
    """A scorer over gRPC with two timers of its own, inside the watchdog's.

    The stream's only ends the wait, and the queue never sees it; the `timeout` parameter only bounds the queue.

    A request that is given up ends its stream, and the server's work on it, unless the server is one that cancellations
    can crash (`TritonEndpoint.cancels`). There the queue's own timer throws out what hasn't begun, which is all that a
    cancellation would have saved; the answer is heard by nobody.
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
        if answer.error_message:
            raise backend_error(answer.error_message)
        return answer.infer_response


def _remaining_s(until: Deadline) -> float:
    remaining_s = until.remaining_s()
    if remaining_s <= 0:
        raise LateError("no time left for the call")
    return remaining_s


def backend_error(text: str) -> BackendError:
    """What Triton's refusal of a request means to the ladder; over a stream it has words and no status.

    Words that aren't known are taken for a fault of the model's: should they mean that it has gone, its canary says so.
    """
    said, words = f"Triton: {text}", text.lower()
    if any(each in words for each in _NO_ROOM):
        return BusyError(said)
    return UnavailableError(said) if any(each in words for each in _GONE) else BadScoresError(said)
