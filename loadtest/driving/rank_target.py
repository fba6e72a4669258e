"""A ranking server under load: a gRPC call per request, every answer checked."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from loadtest.checking.answers import fault_of, tier_of
from loadtest.checking.outcomes import Outcome, of_status
from loadtest.driving.target import Reply
from loadtest.workload.asked import Asked, Workload
from serving.rpc.pb import ranking_pb2 as pb

SERVICE = "/exfm.ranking.v1.RankingService/"
RANK, DESCRIBE = SERVICE + "Rank", SERVICE + "DescribeVertical"
DESCRIBE_S = 5.0
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    # Each channel a connection of its own, so that worker processes on one port all get some.
    ("grpc.use_local_subchannel_pool", 1),
]


class NotDescribedError(RuntimeError):
    """The server didn't say what the vertical expects; the message says why."""


def describe(address: str, vertical: str) -> pb.DescribeVerticalResponse:
    """Ask a server what a vertical expects; `NotDescribedError` if it doesn't say."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.unary_unary(
            DESCRIBE, pb.DescribeVerticalRequest.SerializeToString, pb.DescribeVerticalResponse.FromString
        )
        try:
            described: pb.DescribeVerticalResponse = call(
                pb.DescribeVerticalRequest(vertical=vertical), timeout=DESCRIBE_S, wait_for_ready=True
            )
        except grpc.RpcError as error:
            raise NotDescribedError(f"{address} doesn't describe vertical {vertical!r}: {_said(error)}") from error
        return described


class RankTarget:
    """Sends a workload to a server over some connections; make it on the loop that drives it."""

    def __init__(
        self, address: str, workload: Workload, connections: int = 4, options: Sequence[tuple[str, Any]] = OPTIONS
    ) -> None:
        self._workload = workload
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
        self._calls: list[Any] = [
            channel.unary_unary(RANK, response_deserializer=pb.RankResponse.FromString) for channel in self._channels
        ]

    async def send(self, index: int, timeout_s: float) -> Reply:
        """Send the workload's request `index`."""
        asked, sent_s = self._workload.at(index), time.monotonic()
        try:
            response = await self._calls[index % len(self._calls)](asked.message, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return refused(error.code(), error.details() or "")
        return judged(asked, response, time.monotonic(), sent_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()


def judged(asked: Asked, response: pb.RankResponse, answered_s: float, sent_s: float | None = None) -> Reply:
    """An answer that came at that monotonic instant to a request of another; None: nobody knows, and none is held."""
    fault = fault_of(asked, response, None if sent_s is None else answered_s - sent_s)
    return Reply(
        ok=not fault,
        tier=Outcome.WRONG if fault else tier_of(response),
        error=f"wrong answer: {fault}" if fault else "",
        answered_s=answered_s,
        stages_ms={stage.name: stage.duration_us / 1e3 for stage in response.ledger.stages},
        version=response.model.version,
    )


def refused(code: grpc.StatusCode, details: str) -> Reply:
    """A call that ended with a status; texts of refusals differ by request, so only the status counts for those."""
    tier = of_status(code)
    return Reply(False, tier, code.name if tier != Outcome.FAILED else f"{code.name}: {details}"[:200])


def _said(error: grpc.RpcError) -> str:
    # A failed blocking call is an error and its call in one; the library's types don't say so.
    assert isinstance(error, grpc.Call)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {DESCRIBE_S:g} s; is it up, and is this its gRPC address?"
    return f"{error.code().name}: {error.details()}"
