"""Against a real gRPC server that answers as the test says."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from serving.caller.leg import MOST
from serving.caller.stream import RankStream, code_of
from serving.rpc.pb import ranking_pb2 as pb
from tests.serving.caller.streaming import Answering, channel_to

MESSAGE = pb.RankRequest(request_id="same", vertical="feed_click", number=7).SerializeToString()


@asynccontextmanager
async def asking(answering: Answering, leg_s: float = 60.0) -> AsyncIterator[RankStream]:
    async with channel_to(answering) as channel:
        stream = RankStream(channel, pb.RankStreamResponse.FromString, leg_s)
        try:
            yield stream
        finally:
            await stream.close()


def reply(payload: bytes, reason: str = "") -> bytes:
    request = pb.RankRequest.FromString(payload)
    assert request.vertical == "feed_click"
    ranking = pb.RankResponse(request_id=request.request_id, tier_reason=reason)
    answer = pb.RankStreamResponse(request_id=request.request_id, ranking=ranking, number=request.number)
    return answer.SerializeToString()


async def echo(payloads: AsyncIterator[bytes], context: Any) -> None:
    async for payload in payloads:
        await context.write(reply(payload))


async def test_answers_find_their_requests_in_any_order_and_whatever_their_ids() -> None:
    async def backwards(payloads: AsyncIterator[bytes], context: Any) -> None:
        taken: list[bytes] = []
        async for payload in payloads:
            taken.append(payload)
            if len(taken) == 20:
                for each in reversed(taken):
                    await context.write(reply(each, str(pb.RankRequest.FromString(each).bids[0])))

    asked = [pb.RankRequest(vertical="feed_click", bids=[bid]).SerializeToString() for bid in range(20)]
    async with asking(backwards) as stream:
        answers = await asyncio.gather(*(stream.ask(message, 10.0) for message in asked))
    assert [answer.ranking.tier_reason for answer in answers] == [f"{bid}.0" for bid in range(20)]
    assert {answer.ranking.request_id for answer in answers} == {""}


async def test_the_server_is_told_what_is_left_of_a_requests_time() -> None:
    told: list[int] = []

    async def listening(payloads: AsyncIterator[bytes], context: Any) -> None:
        async for payload in payloads:
            told.append(pb.RankRequest.FromString(payload).timeout_us)
            await context.write(reply(payload))

    async with asking(listening) as stream:
        await stream.ask(MESSAGE, 10.0)
        await stream.ask(pb.RankRequest(vertical="feed_click", timeout_us=5).SerializeToString(), 20.0)
    assert 5e6 < told[0] <= 10e6
    assert 15e6 < told[1] <= 20e6


async def test_each_has_its_own_deadline() -> None:
    async def only_third(payloads: AsyncIterator[bytes], context: Any) -> None:
        seen = 0
        async for payload in payloads:
            seen += 1
            if seen != 2:
                await context.write(reply(payload, str(seen)))

    async with asking(only_third) as stream:
        await stream.ask(MESSAGE, 10.0)  # it is open
        late = asyncio.create_task(stream.ask(MESSAGE, 0.2))
        await asyncio.sleep(0)
        answer = await stream.ask(MESSAGE, 10.0)
        assert answer.ranking.tier_reason == "3"
        with pytest.raises(TimeoutError):
            await late


async def test_a_late_answer_is_nobody_elses() -> None:
    async def one_behind(payloads: AsyncIterator[bytes], context: Any) -> None:
        first = await anext(payloads)
        second = await anext(payloads)
        await context.write(reply(first, "late"))
        await context.write(reply(second, "own"))

    async with asking(one_behind) as stream:
        with pytest.raises(TimeoutError):
            await stream.ask(MESSAGE, 0.2)
        assert (await stream.ask(MESSAGE, 10.0)).ranking.tier_reason == "own"


async def test_one_that_is_given_up_as_the_same_is_asked_again_takes_nothing_with_it() -> None:
    async def second(payloads: AsyncIterator[bytes], context: Any) -> None:
        await anext(payloads)
        async for payload in payloads:
            await context.write(reply(payload))

    async with asking(second) as stream:
        for _ in range(3):
            first = asyncio.create_task(stream.ask(MESSAGE, 0.2))
            await asyncio.wait((first,), timeout=0.2)
            assert await asyncio.wait_for(stream.ask(MESSAGE, 10.0), 20.0)
            await asyncio.wait((first,))


async def test_no_more_are_on_their_way_than_a_server_works_on() -> None:
    taken: list[bytes] = []
    full, go_on = asyncio.Event(), asyncio.Event()

    async def holding(payloads: AsyncIterator[bytes], context: Any) -> None:
        async for payload in payloads:
            taken.append(payload)
            if len(taken) == MOST:
                full.set()
                await go_on.wait()
                for each in taken:
                    await context.write(reply(each))
            elif len(taken) > MOST:
                await context.write(reply(payload))

    async with asking(holding) as stream:
        waiting = [asyncio.create_task(stream.ask(MESSAGE, 30.0)) for _ in range(MOST + 5)]
        await full.wait()
        brief = asyncio.create_task(stream.ask(MESSAGE, 0.05))
        with pytest.raises(TimeoutError):
            await brief  # in its time, though it was never sent
        go_on.set()
        await asyncio.gather(*waiting)
    assert len(taken) == MOST + 5


async def test_after_its_time_a_stream_goes_on_over_another_call_and_nothing_is_lost() -> None:
    ended: list[int] = []

    async def slow(payloads: AsyncIterator[bytes], context: Any) -> None:
        async for payload in payloads:
            await asyncio.sleep(0.002)
            await context.write(reply(payload))
        ended.append(len(ended))

    async with asking(slow, leg_s=0.05) as stream:
        until_s = asyncio.get_running_loop().time() + 10.0
        while len(ended) < 3:
            await asyncio.gather(*(stream.ask(MESSAGE, 10.0) for _ in range(5)))
            assert asyncio.get_running_loop().time() < until_s


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


async def test_a_fault_of_the_server_is_told_as_what_it_is() -> None:
    async def faulty(payloads: AsyncIterator[bytes], context: Any) -> None:
        await anext(payloads)
        await context.abort(grpc.StatusCode.INTERNAL, "a real fault")

    async with asking(faulty) as stream:
        with pytest.raises(grpc.aio.AioRpcError, match="a real fault"):
            await stream.ask(MESSAGE, 10.0)


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
    assert [pb.RankRequest.FromString(message).number for message in written] == [1, 3]
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
