"""Against a real gRPC server that answers as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from serving.caller.streams import RankStreams
from serving.errors import DeadlinePassedError, OverloadedError, UnreachableError
from serving.rpc.pb import ranking_pb2 as pb
from tests.serving.caller.streaming import Answering, channel_to


@asynccontextmanager
async def asking(answering: Answering, count: int = 2) -> AsyncIterator[RankStreams]:
    async with channel_to(answering) as channel:
        streams = RankStreams(channel, count)
        try:
            yield streams
        finally:
            await streams.close()


def request(name: str = "") -> pb.RankRequest:
    return pb.RankRequest(request_id=name, vertical="feed_click")


def reply(payload: bytes) -> bytes:
    request = pb.RankRequest.FromString(payload)
    ranking = pb.RankResponse(request_id=request.request_id)
    return pb.RankStreamResponse(number=request.number, ranking=ranking).SerializeToString()


async def echo(payloads: AsyncIterator[bytes], context: Any) -> None:
    async for payload in payloads:
        await context.write(reply(payload))


async def silent(payloads: AsyncIterator[bytes], _: Any) -> None:
    async for _payload in payloads:
        pass


async def test_requests_keep_their_ids_and_take_the_streams_in_turn() -> None:
    opened = 0

    async def counted(payloads: AsyncIterator[bytes], context: Any) -> None:
        nonlocal opened
        opened += 1
        await echo(payloads, context)

    async with asking(counted, count=3) as streams:
        names = [f"request-{number}" for number in range(30)]
        answers = await asyncio.gather(*(streams.rank(request(name), 10.0) for name in names))
        assert [answer.request_id for answer in answers] == names
        assert opened == 3
        nameless = await asyncio.gather(*(streams.rank(request(), 10.0) for _ in range(30)))
    assert not any(answer.request_id for answer in nameless)


async def test_two_of_one_id_are_two_requests() -> None:
    async with asking(echo, count=1) as streams:
        answers = await asyncio.gather(*(streams.rank(request("same"), 10.0) for _ in range(2)))
    assert [answer.request_id for answer in answers] == ["same", "same"]


async def test_who_gets_no_answer_is_told_how_long_it_was_waited_for() -> None:
    async with asking(silent) as streams:
        with pytest.raises(DeadlinePassedError, match=r"no answer within 0\.05 s"):
            await streams.rank(request("a"), 0.05)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_what_a_leaving_server_did_not_answer_is_asked_for_once_more(code: grpc.StatusCode) -> None:
    opened = 0

    async def leaves_once(payloads: AsyncIterator[bytes], context: Any) -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            await anext(payloads)
            await context.abort(code, "going away")
        await echo(payloads, context)

    async with asking(leaves_once, count=1) as streams:
        assert (await streams.rank(request("a"), 10.0)).request_id == "a"
    assert opened == 2


async def test_who_leaves_twice_is_unreachable_and_another_fault_is_not_asked_again() -> None:
    opened = 0

    async def leaves(payloads: AsyncIterator[bytes], context: Any) -> None:
        nonlocal opened
        opened += 1
        await anext(payloads)
        await context.abort(codes[min(opened, len(codes)) - 1], "as told")

    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    async with asking(leaves, count=1) as streams:
        with pytest.raises(UnreachableError, match="as told"):
            await streams.rank(request("a"), 10.0)
        with pytest.raises(OverloadedError, match="as told"):
            await streams.rank(request("a"), 10.0)
    assert opened == 3


async def test_what_waits_when_they_are_closed_is_told() -> None:
    async with asking(silent) as streams:
        waiting = asyncio.create_task(streams.rank(request("a"), 10.0))
        await asyncio.sleep(0)
        await streams.close()
        with pytest.raises(UnreachableError):
            await waiting
