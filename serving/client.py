"""What an ad server written in Python imports.

    async with RankingClient("127.0.0.1:8500") as client:
        ranking = await client.rank(
            RankCall(
                "feed_click",
                ad_ids=[11, 12],
                ads=[{"genre": 10}, {"genre": 20}],
                user={"user": "u-7", "city": "oslo"},
                bids=[1.5, 0.8],
            ),
            timeout_s=0.02,
        )
        best = ranking.ads[0].ad_id
        ...
        await client.record([OutcomeCall(ranking.request_id, best, "click")])

Who has many requests lets them share some streams, which takes both sides less: `RankingClient(address, streams=4)`.
Outcomes name the impression by the request's id, so give the call one (`request_id`) if there are to be any.
Both clients raise the refusals of `serving.errors` (`InvalidRequestError`, `UnknownVerticalError`, `OverloadedError`,
`DeadlinePassedError`, `NotOfferedError`), `UnreachableError` and `ServerFailedError`.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc

from serving.admission.priority import Priority
from serving.caller.channel import OPTIONS, target_of
from serving.caller.layout import Layout, Prepared
from serving.caller.outcome import OutcomeCall, outcomes_message
from serving.caller.ranking import RankedAd, Ranking, read_ranking
from serving.caller.request import RankCall
from serving.caller.streams import RankStreams
from serving.errors import (
    DeadlinePassedError,
    InvalidRequestError,
    NotOfferedError,
    OverloadedError,
    RefusalError,
    ServerFailedError,
    ServingError,
    UnknownVerticalError,
    UnreachableError,
)
from serving.ladder.tier import Tier
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.status import error_of

__all__ = [
    "BlockingRankingClient",
    "DeadlinePassedError",
    "InvalidRequestError",
    "NotOfferedError",
    "OutcomeCall",
    "OverloadedError",
    "Prepared",
    "Priority",
    "RankCall",
    "RankedAd",
    "Ranking",
    "RankingClient",
    "RefusalError",
    "ServerFailedError",
    "ServingError",
    "Tier",
    "UnknownVerticalError",
    "UnreachableError",
]

_RANK = "/exfm.ranking.v1.RankingService/Rank"
_DESCRIBE = "/exfm.ranking.v1.RankingService/DescribeVertical"
_RECORD = "/exfm.ranking.v1.RankingService/RecordOutcomes"
_DESCRIBE_S = 5.0
_RECORD_S = 5.0
# The server keeps the budget itself; the caller's own deadline only has to survive the network's part.
_DEFAULT_BUDGETS = 2.0


class _Layouts:
    """Layouts by vertical, forgotten when an answer comes from another version."""

    def __init__(self) -> None:
        self._known: dict[str, Layout] = {}

    def get(self, vertical: str) -> Layout | None:
        return self._known.get(vertical)

    def learn(self, description: pb.DescribeVerticalResponse) -> Layout:
        layout = self._known[description.vertical] = Layout(description)
        return layout

    def read(self, response: pb.RankResponse, call: RankCall, layout: Layout) -> Ranking:
        if response.model.version != layout.version:
            self._known.pop(call.vertical, None)
        return read_ranking(response, call.names())


class RankingClient:
    """Asks a ranking server from an event loop; make it on the loop that uses it. It may be shared by many tasks."""

    def __init__(self, address: str, *, streams: int = 0) -> None:
        """Connect to one server or several (see `serving.caller.channel.target_of`) when the first call is made.

        With `streams` rankings go over so many streams instead of a call each, which lets a server answer about a
        quarter more of them. Of one stream 32 requests are on their way at once; more wait here, within their time.
        """
        self._channel = grpc.aio.insecure_channel(target_of(address), options=OPTIONS)
        self._streams = RankStreams(self._channel, streams) if streams else None
        self._rank = self._channel.unary_unary(_RANK, pb.RankRequest.SerializeToString, pb.RankResponse.FromString)
        self._describe = self._channel.unary_unary(
            _DESCRIBE, pb.DescribeVerticalRequest.SerializeToString, pb.DescribeVerticalResponse.FromString
        )
        self._record = self._channel.unary_unary(
            _RECORD, pb.RecordOutcomesRequest.SerializeToString, pb.RecordOutcomesResponse.FromString
        )
        self._layouts = _Layouts()

    async def rank(self, call: RankCall, timeout_s: float | None = None) -> Ranking:
        """Rank the call's candidates; by default within twice the vertical's budget, the network included."""
        layout = self._layouts.get(call.vertical) or await self.layout(call.vertical)
        message, within_s = call.message(layout), _timeout_s(timeout_s, layout)
        try:
            if self._streams:
                response = await self._streams.rank(message, within_s)
            else:
                response = await self._rank(message, timeout=within_s)
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code(), error.details() or "", error.trailing_metadata() or ()) from error
        return self._layouts.read(response, call, layout)

    async def record(self, outcomes: Sequence[OutcomeCall], timeout_s: float = _RECORD_S) -> int:
        """Tell what became of shown ads; how many, once all of them are durable.

        `OverloadedError`: none was taken. After any other failure nobody knows; telling them again is harmless.
        """
        try:
            said = await self._record(outcomes_message(outcomes), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code(), error.details() or "", error.trailing_metadata() or ()) from error
        return int(said.accepted)

    async def layout(self, vertical: str) -> Layout:
        """Ask what a vertical expects, and remember it."""
        try:
            description = await self._describe(pb.DescribeVerticalRequest(vertical=vertical), timeout=_DESCRIBE_S)
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code(), error.details() or "", error.trailing_metadata() or ()) from error
        return self._layouts.learn(description)

    async def close(self) -> None:
        """Close the connection."""
        if self._streams:
            await self._streams.close()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class BlockingRankingClient:
    """The same without an event loop; it may be shared by threads."""

    def __init__(self, address: str) -> None:
        """Connect to one server or several (see `serving.caller.channel.target_of`) when the first call is made."""
        self._channel = grpc.insecure_channel(target_of(address), options=OPTIONS)
        self._rank = self._channel.unary_unary(_RANK, pb.RankRequest.SerializeToString, pb.RankResponse.FromString)
        self._describe = self._channel.unary_unary(
            _DESCRIBE, pb.DescribeVerticalRequest.SerializeToString, pb.DescribeVerticalResponse.FromString
        )
        self._record = self._channel.unary_unary(
            _RECORD, pb.RecordOutcomesRequest.SerializeToString, pb.RecordOutcomesResponse.FromString
        )
        self._layouts = _Layouts()

    def rank(self, call: RankCall, timeout_s: float | None = None) -> Ranking:
        """Rank the call's candidates; by default within twice the vertical's budget, the network included."""
        layout = self._layouts.get(call.vertical) or self.layout(call.vertical)
        message = call.message(layout)
        try:
            response = self._rank(message, timeout=_timeout_s(timeout_s, layout))
        except grpc.RpcError as error:
            raise _blocking_error(error) from error
        return self._layouts.read(response, call, layout)

    def record(self, outcomes: Sequence[OutcomeCall], timeout_s: float = _RECORD_S) -> int:
        """Tell what became of shown ads; see `RankingClient.record`."""
        try:
            said = self._record(outcomes_message(outcomes), timeout=timeout_s)
        except grpc.RpcError as error:
            raise _blocking_error(error) from error
        return int(said.accepted)

    def layout(self, vertical: str) -> Layout:
        """Ask what a vertical expects, and remember it."""
        try:
            description = self._describe(pb.DescribeVerticalRequest(vertical=vertical), timeout=_DESCRIBE_S)
        except grpc.RpcError as error:
            raise _blocking_error(error) from error
        return self._layouts.learn(description)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _timeout_s(timeout_s: float | None, layout: Layout) -> float:
    return layout.budget_s * _DEFAULT_BUDGETS if timeout_s is None else timeout_s


def _blocking_error(error: grpc.RpcError) -> ServingError:
    # A failed blocking call is an error and its call in one; the library's types don't say so.
    assert isinstance(error, grpc.Call)
    return error_of(error.code(), error.details() or "", error.trailing_metadata() or ())
