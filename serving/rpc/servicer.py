"""The service as gRPC sees it: contexts to arrivals, errors to status. Nothing about a ranking is decided here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Arrival
from serving.budget.reserve import ReplyReserve
from serving.errors import InvalidRequestError, NotOfferedError, RefusalError
from serving.ranker import Ranker, Reply
from serving.rpc import packed
from serving.rpc.handover import when_handed_over
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.status import CODE_OF, INTERNAL_TEXT, code_name, number_of, pushback_of, trailers_of
from serving.telemetry.hooks import Hooks

if TYPE_CHECKING:
    from serving.impressions.keeper import Keeper

log = logging.getLogger(__name__)

SERVICE = "exfm.ranking.v1.RankingService"
IN_FLIGHT = 32
"""Requests of one stream that are worked on at once; the next one is read when a reply has gone out."""
DRAINING_TEXT = "the server is going away; requests without a reply were not read"

Context = grpc.aio.ServicerContext[Any, Any]


class RankingServicer:
    """Handlers that take and give bytes, so that a payload which can't be parsed is ours to answer.

    `waited_s(now_s)` says how long a request that is taken up now is taken to have waited for that.
    """

    def __init__(
        self,
        ranker: Ranker,
        reserve: ReplyReserve,
        waited_s: Callable[[float], float],
        hooks: Hooks | None = None,
        clock: Clock = MONOTONIC,
        *,
        keeper: "Keeper | None" = None,
    ) -> None:
        """Without a `keeper` outcomes are not offered."""
        self._ranker = ranker
        self._reserve = reserve
        self._waited_s = waited_s
        self._hooks = hooks or Hooks(clock)
        self._clock = clock
        self._keeper = keeper
        self._reading: set[asyncio.Task[None]] = set()
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """All methods, as the server registers them."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Rank": grpc.unary_unary_rpc_method_handler(self.rank),
            "RankStream": grpc.stream_stream_rpc_method_handler(self.rank_stream),
            "RecordOutcomes": grpc.unary_unary_rpc_method_handler(self.record_outcomes),
            "DescribeVertical": grpc.unary_unary_rpc_method_handler(self.describe_vertical),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def drain(self) -> None:
        """Read no further request of any stream; each ends once what was read of it is answered."""
        self._draining = True
        for reading in self._reading:
            reading.cancel()

    async def rank(self, payload: bytes, context: Context) -> bytes:
        """One request, one ranking."""
        return await _or_abort(self._rank(payload, context), context)

    async def _rank(self, payload: bytes, context: Context) -> bytes:
        reply = await self._ask(payload, self._arrival(context))
        written: bytes = reply.response.SerializeToString()
        when_handed_over(partial(self._left, reply, self._clock()))
        return written

    async def rank_stream(self, payloads: AsyncIterator[bytes], context: Context) -> None:
        """Many requests, each with its own budget; refusals in place, replies as they are ready.

        In a drain it ends as UNAVAILABLE behind the last reply: what has none by then was not read, and is for another
        server.
        """
        slots, writing = asyncio.Semaphore(IN_FLIGHT), asyncio.Lock()

        async def one(payload: bytes, arrival: Arrival) -> None:
            try:
                response, reply = await self._answer(payload, arrival)
                with self._watched(reply):
                    async with writing:
                        await context.write(response.SerializeToString())
            finally:
                slots.release()

        async def read() -> None:
            await slots.acquire()
            async for payload in payloads:
                group.create_task(one(payload, self._arrival(context)))
                await slots.acquire()

        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(read())
                self._follow(reading)
        except ExceptionGroup:
            # Only writing can fail, and only because the caller has gone.
            log.debug("a stream ended before its replies were written", exc_info=True)
            return
        if self._draining and reading.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, DRAINING_TEXT)

    def _follow(self, reading: asyncio.Task[None]) -> None:
        """See to it that a drain ends the reading."""
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        if self._draining:
            reading.cancel()

    async def _answer(self, payload: bytes, arrival: Arrival) -> tuple[Any, Reply | None]:
        """A stream's answer to one request, and the ranking in it unless it is a refusal."""
        try:
            reply = await self._ask(payload, arrival)
        except RefusalError as error:
            refusal = pb.Refusal(
                code=number_of(CODE_OF[type(error)]), message=str(error), retry_pushback_ms=pushback_of(error)
            )
        except Exception:
            log.exception("a request failed")
            refusal = pb.Refusal(code=number_of(grpc.StatusCode.INTERNAL), message=INTERNAL_TEXT)
        else:
            answer, name = reply.response, reply.response.request_id
            return packed.RankStreamResponse(request_id=name, ranking=answer, number=reply.number), reply
        return _refused(payload, refusal), None

    async def _ask(self, payload: bytes, arrival: Arrival) -> Reply:
        """The ranker's reply or error; either way the hooks hear of it, once."""
        visit = self._hooks.open(arrival)
        try:
            reply = await self._ranker.rank(payload, arrival, visit)
        except BaseException as error:
            self._hooks.close(visit, code_name(error))
            raise
        self._hooks.close(visit, grpc.StatusCode.OK.name)
        return reply

    async def record_outcomes(self, payload: bytes, context: Context) -> bytes:
        """Late labels, acknowledged once they are durable."""
        return await _or_abort(self._record(payload), context)

    async def _record(self, payload: bytes) -> bytes:
        if self._keeper is None:
            raise NotOfferedError("this server keeps no outcome log; exfm-serve --log gives it one")
        accepted = await self._keeper.record(payload)
        return pb.RecordOutcomesResponse(accepted=accepted).SerializeToString()

    async def describe_vertical(self, payload: bytes, context: Context) -> bytes:
        """What a vertical expects and promises."""
        return await _or_abort(self._describe(payload), context)

    async def _describe(self, payload: bytes) -> bytes:
        try:
            name = pb.DescribeVerticalRequest.FromString(payload).vertical
        except DecodeError:
            raise InvalidRequestError("the payload is not a DescribeVerticalRequest message") from None
        return self._ranker.describe(name).SerializeToString()

    def _arrival(self, context: Context) -> Arrival:
        now_s = self._clock()
        return Arrival(now_s, context.time_remaining(), self._waited_s(now_s))

    @contextmanager
    def _watched(self, reply: Reply | None) -> Iterator[None]:
        """A stream's answer is written inside, which fails where the caller has gone."""
        made_s, written = self._clock(), False
        try:
            yield
            written = True
        finally:
            if reply:
                self._left(reply, made_s, written)

    def _left(self, reply: Reply, made_s: float, handed_over: bool) -> None:
        """An answer that was made at `made_s` has left, or never will.

        Of one that never left the reserve hears what it took to make it, and no more: how long its caller had stopped
        reading before it gave up is no time that other replies need.
        """
        self._reserve.observe((self._clock() if handed_over else made_s) - reply.since_s)
        reply.keep(handed_over)


async def _or_abort(work: Awaitable[bytes], context: Context) -> bytes:
    """The work's result, or the status that its error stands for; cancellation passes."""
    try:
        return await work
    except RefusalError as error:
        await _abort(context, error)
    except Exception:
        log.exception("a request failed")
        await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


async def _abort(context: Context, error: RefusalError) -> NoReturn:
    await context.abort(CODE_OF[type(error)], str(error), trailers_of(error))


def _refused(payload: bytes, refusal: pb.Refusal) -> pb.RankStreamResponse:
    """A stream's answer to a request that gets no ranking, or is none."""
    try:
        request = pb.RankRequest.FromString(payload)
    except DecodeError:
        return pb.RankStreamResponse(refusal=refusal)
    return pb.RankStreamResponse(request_id=request.request_id, number=request.number, refusal=refusal)
