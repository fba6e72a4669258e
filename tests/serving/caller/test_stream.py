"""Against a real gRPC server that answers as the test says."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from serving.caller.stream import RankStream, code_of
from serving.rpc.pb import ranking_pb2 as pb
from tests.serving.caller.streaming import Answering, channel_to

MESSAGE = pb.RankRequest(request_id="replaced", vertical="feed_click").SerializeToString()


@asynccontextmanager
async def asking(answering: Answering) -> AsyncIterator[RankStream]:
    async with channel_to(answering) as channel:
        stream = RankStream(channel, pb.RankStreamResponse.FromString)
        try:
            yield stream
        finally:
            await stream.close()


def reply(payload: bytes, reason: str = "") -> bytes:
    request = pb.RankRequest.FromString(payload)
    assert request.vertical == "feed_click"
    ranking = pb.RankResponse(request_id=request.request_id, tier_reason=reason)
    return pb.RankStreamResponse(request_id=request.request_id, ranking=ranking).SerializeToString()


async def test_answers_find_their_requests_in_any_order() -> None:
    async def backwards(payloads: AsyncIterator[bytes], context: Any) -> None:
        taken: list[bytes] = []
        async for payload in payloads:
            taken.append(payload)
            if len(taken) == 20:
                for each in reversed(taken):
                    await context.write(reply(each))

    async with asking(backwards) as stream:
        answers = await asyncio.gather(*(stream.ask(MESSAGE, 10.0) for _ in range(20)))
    assert [answer.ranking.request_id for answer in answers] == [f"{number:x}" for number in range(20)]


async def test_a_number_is_never_a_name_that_is_on_its_way() -> None:
    async def after_two(payloads: AsyncIterator[bytes], context: Any) -> None:
        taken = [await anext(payloads), await anext(payloads)]
        for each in taken:
            await context.write(reply(each))

    named = pb.RankRequest(request_id="0", vertical="feed_click").SerializeToString()
    async with asking(after_two) as stream:
        answers = await asyncio.gather(stream.ask(named, 10.0, "0"), stream.ask(MESSAGE, 10.0))
    assert [answer.ranking.request_id for answer in answers] == ["0", "1"]


async def test_each_has_its_own_deadline() -> None:
    async def only_second(payloads: AsyncIterator[bytes], context: Any) -> None:
        seen = 0
        async for payload in payloads:
            seen += 1
            if seen == 2:
                await context.write(reply(payload, "second"))

    async with asking(only_second) as stream:
        late = asyncio.create_task(stream.ask(MESSAGE, 0.2))
        await asyncio.sleep(0)
        answer = await stream.ask(MESSAGE, 10.0)
        assert answer.ranking.tier_reason == "second"
        with pytest.raises(TimeoutError):
            await late


async def test_a_broken_stream_fails_what_waits_and_the_next_request_opens_another() -> None:
    opened = 0

    async def breaks_once(payloads: AsyncIterator[bytes], context: Any) -> None:
        nonlocal opened
        opened += 1
        async for payload in payloads:
            if opened == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            await context.write(reply(payload, str(opened)))

    async with asking(breaks_once) as stream:
        with pytest.raises(grpc.aio.AioRpcError, match="going away"):
            await stream.ask(MESSAGE, 10.0)
        answer = await stream.ask(MESSAGE, 10.0)
    assert answer.ranking.tier_reason == "2"


async def test_what_waits_when_it_is_closed_fails() -> None:
    async def silent(payloads: AsyncIterator[bytes], _: Any) -> None:
        async for _payload in payloads:
            taken.set()

    taken = asyncio.Event()
    async with asking(silent) as stream:
        waiting = asyncio.create_task(stream.ask(MESSAGE, 10.0))
        await taken.wait()
        await stream.close()
        with pytest.raises((ConnectionError, grpc.aio.AioRpcError)):
            await waiting


async def test_a_connection_that_takes_nothing_more_holds_up_no_deadline() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    written: list[bytes] = []
    begun, taken, both, never = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Full:
        """A call whose connection is full until the test says otherwise."""

        async def write(self, message: bytes) -> None:
            begun.set()
            await taken.wait()
            written.append(message)
            if len(written) == 2:
                both.set()

        read = never.wait

    class Channel:
        def stream_stream(self, *_: object, **__: object) -> Callable[[], Full]:
            return Full

    stream = RankStream(Channel(), pb.RankStreamResponse.FromString)  # type: ignore[arg-type]
    first, second = (asyncio.create_task(stream.ask(MESSAGE, 0.01)) for _ in range(2))
    await begun.wait()
    for late in (first, second):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 10.0)
    assert not written
    taken.set()
    third = asyncio.create_task(stream.ask(MESSAGE, 10.0))
    await asyncio.wait_for(both.wait(), 10.0)
    # What was given up before the connection took it is not sent.
    assert [pb.RankRequest.FromString(message).request_id for message in written] == ["0", "2"]
    third.cancel()
    await asyncio.wait((third,))
    del first, second, third, late
    gc.collect()
    assert not complaints


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN])
def test_a_refusals_number_is_a_status(code: grpc.StatusCode) -> None:
    assert code_of(pb.Refusal(code=code.value[0])) == code


def test_a_number_that_is_no_status_is_unknown() -> None:
    assert code_of(pb.Refusal(code=99)) == grpc.StatusCode.UNKNOWN
