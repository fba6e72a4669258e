"""The documented answers, over real sockets, with scorers that behave as told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.budget.deadline import Deadline
from serving.catalog import Catalog
from serving.errors import BadScoresError, BusyError, OverloadedError, UnavailableError
from serving.inference.scorer import Scores, checked
from serving.query import RankQuery
from serving.ranker import Ranker
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.servicer import IN_FLIGHT, SERVICE

Make = Callable[..., pb.RankRequest]


class Caller:
    """A client that sends and gets bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.rank_bytes: Any = channel.unary_unary(f"/{SERVICE}/Rank")
        self.stream_bytes: Any = channel.stream_stream(f"/{SERVICE}/RankStream")
        self.method: Any = lambda name: channel.unary_unary(f"/{SERVICE}/{name}")
        self.health = health_pb2_grpc.HealthStub(channel)

    async def rank(self, message: pb.RankRequest, timeout_s: float | None = 5.0) -> pb.RankResponse:
        return pb.RankResponse.FromString(await self.rank_bytes(message.SerializeToString(), timeout=timeout_s))


@pytest.fixture
def calling(running: Callable[..., Any]) -> Callable[..., Any]:
    """`async with calling(scorer) as (caller, worker)`."""

    @asynccontextmanager
    async def call(scorer: Any, **options: Any) -> AsyncIterator[Any]:
        async with running(scorer, **options) as (address, worker), grpc.aio.insecure_channel(address) as channel:
            yield Caller(channel), worker

    return call


async def _hang(*_: Any) -> Scores:
    await asyncio.sleep(60)
    raise AssertionError


async def _raise(error: Exception) -> Scores:
    raise error


async def _nan(query: RankQuery, _: Deadline) -> Scores:
    return Scores(checked(np.full((len(query), 2), np.nan, np.float32), query))


async def test_a_sound_request_is_ranked_by_the_model(calling: Any, scripted: Any, make_message: Make) -> None:
    async with calling(scripted()) as (caller, _):
        message = make_message(20)
        response = await caller.rank(message)
    share = (np.frombuffer(message.ads.ids, "<i8").reshape(20, 2)[:, 0] % 1000 / 1000).astype(np.float32)
    expected = np.array(message.bids) * share
    assert list(response.ad_ids) == (100 + np.argsort(-expected, kind="stable")).tolist()
    np.testing.assert_allclose(response.expected_values, np.sort(expected)[::-1], rtol=1e-6)
    assert (response.request_id, response.tier, response.tier_reason) == ("r0", pb.TIER_FULL, "")
    assert [stage.name for stage in response.ledger.stages] == ["wait", "decode", "score", "order", "encode"]
    assert response.ledger.budget_us == pytest.approx(200_000, abs=5000)
    assert response.ledger.spent_us == sum(stage.duration_us for stage in response.ledger.stages)


FAILURES: dict[str, tuple[Any, str]] = {
    "hangs": (_hang, "scores_late"),
    "gives nan": (_nan, "bad_scores"),
    "gives nonsense": (lambda *_: _raise(BadScoresError("x")), "bad_scores"),
    "is full": (lambda *_: _raise(BusyError("x")), "backend_busy"),
    "is gone": (lambda *_: _raise(UnavailableError("x")), "backend_unavailable"),
    "is broken": (lambda *_: _raise(KeyError("x")), "scorer_failed"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_backend_that_fails_is_answered_for_by_the_prior_in_time(
    calling: Any, scripted: Any, make_message: Make, case: str
) -> None:
    behaviour, reason = FAILURES[case]
    async with calling(scripted(behaviour)) as (caller, worker):
        response = await caller.rank(make_message(5))
        assert worker.watchdog.running <= 1
    assert (response.tier, response.tier_reason) == (pb.TIER_PRIOR, reason)
    assert response.ledger.spent_us <= response.ledger.budget_us
    assert list(response.scores[0].probabilities) == [0.25] * 5


async def test_scores_that_come_too_late_do_not_count(calling: Any, scripted: Any, make_message: Make) -> None:
    scorer = scripted(_hang)
    async with calling(scorer) as (caller, _):
        response = await caller.rank(make_message(5), timeout_s=0.1)
        assert (response.tier_reason, scorer.held) == ("scores_late", 0)
        assert response.ledger.spent_us < 100_000


def _without_ads(message: pb.RankRequest) -> bytes:
    message.ClearField("ad_ids")
    return message.SerializeToString()


BAD: dict[str, tuple[Callable[[pb.RankRequest], bytes], grpc.StatusCode, str]] = {
    "garbage": (lambda _: b"\xff\x00garbage", grpc.StatusCode.INVALID_ARGUMENT, "not a RankRequest"),
    "empty": (lambda _: b"", grpc.StatusCode.NOT_FOUND, "no vertical ''"),
    "no candidates": (_without_ads, grpc.StatusCode.INVALID_ARGUMENT, "0 candidates"),
    "oversize": (lambda _: b"\0" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_request_is_refused_while_a_good_one_is_undisturbed(
    calling: Any, scripted: Any, make_message: Make, case: str
) -> None:
    spoil, code, says = BAD[case]
    async with calling(scripted()) as (caller, _):
        good = asyncio.create_task(caller.rank(make_message(5)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.rank_bytes(spoil(make_message(5)), timeout=5)
        assert (await good).tier == pb.TIER_FULL
    assert caught.value.code() is code
    assert says in (caught.value.details() or "")
    assert "Traceback" not in (caught.value.details() or "")


async def test_an_unknown_vertical_is_not_found_and_told_what_there_is(
    calling: Any, scripted: Any, make_message: Make
) -> None:
    message = make_message(5)
    message.vertical = "feed_" + "x" * 1000
    async with calling(scripted()) as (caller, _):
        with pytest.raises(grpc.aio.AioRpcError, match="served: feed_click, feed_long_view") as caught:
            await caller.rank(message)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(caught.value.details() or "") < 200


async def test_a_fault_of_ours_tells_nothing(
    calling: Any, scripted: Any, make_message: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with calling(scripted()) as (caller, _):
        monkeypatch.setattr(Ranker, "rank", lambda *_: _raise(ZeroDivisionError("secret")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.rank(make_message(5))
        replies = [reply async for reply in caller.stream_bytes(iter([make_message(5).SerializeToString()]))]
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    refusal = pb.RankStreamResponse.FromString(replies[0]).refusal
    assert (refusal.code, refusal.message) == (13, "internal error")
    assert "secret" in caplog.text


async def test_overload_carries_its_pushback(
    calling: Any, scripted: Any, make_message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(scripted()) as (caller, _):
        monkeypatch.setattr(Ranker, "rank", lambda *_: _raise(OverloadedError("full", 40)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.rank(make_message(5))
        replies = [reply async for reply in caller.stream_bytes(iter([make_message(5).SerializeToString()]))]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "40") in tuple(caught.value.trailing_metadata() or ())
    refusal = pb.RankStreamResponse.FromString(replies[0]).refusal
    assert (refusal.code, refusal.retry_pushback_ms) == (8, 40)


@pytest.mark.parametrize(("timeout_s", "budget_ms"), [(None, 200.0), (3600.0, 200.0), (0.1, 100.0)])
async def test_the_callers_deadline_only_shortens(
    calling: Any, scripted: Any, make_message: Make, timeout_s: float | None, budget_ms: float
) -> None:
    async with calling(scripted()) as (caller, _):
        response = await caller.rank(make_message(5), timeout_s)
    assert response.tier == pb.TIER_FULL
    # gRPC rounds a timeout up to a few digits; on its way the deadline melts, more so beside other work.
    # What it waited before our code saw it was part of what it had.
    (waited_ms,) = (stage.duration_us / 1000 for stage in response.ledger.stages if stage.name == "wait")
    assert budget_ms / 2 <= response.ledger.budget_us / 1000 <= budget_ms * 1.01 + waited_ms


async def test_a_caller_with_a_millisecond_gets_the_prior_or_no_answer_and_leaves_nothing(
    calling: Any, scripted: Any, make_message: Make, eventually: Any
) -> None:
    scorer = scripted(_hang)
    async with calling(scorer) as (caller, worker):
        calls = [caller.rank(make_message(5), 0.001) for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, grpc.aio.AioRpcError):
                assert answer.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            else:
                assert not isinstance(answer, BaseException)
                assert answer.tier == pb.TIER_PRIOR
        await eventually(lambda: scorer.held == 0 and worker.watchdog.running == 0)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.01])
async def test_a_caller_who_gives_up_leaves_nothing_behind(
    calling: Any, scripted: Any, make_message: Make, eventually: Any, after_s: float
) -> None:
    scorer = scripted(_hang)
    async with calling(scorer) as (caller, worker):
        calls = [caller.rank_bytes(make_message(5).SerializeToString(), timeout=5) for _ in range(10)]
        await asyncio.sleep(after_s)
        for call in calls:
            call.cancel()
        await eventually(lambda: scorer.held == 0 and worker.watchdog.running == 0)
        scorer.behaviour = None
        assert (await caller.rank(make_message(5))).tier == pb.TIER_FULL


async def test_a_stream_answers_as_ready_and_refuses_in_place(calling: Any, scripted: Any, make_message: Make) -> None:
    async def first_is_slow(query: RankQuery, _: Deadline) -> Scores:
        await asyncio.sleep(60 if query.request_id == "r0" else 0)
        return Scores(np.full((len(query), 2), 0.5, np.float32))

    bad = make_message(3, seed=7)
    bad.bids[1] = -1
    sound = [make_message(3, seed=seed).SerializeToString() for seed in (0, 9)]
    bad.number = 70
    payloads = [sound[0], bad.SerializeToString(), b"\xff", sound[1]]
    async with calling(scripted(first_is_slow)) as (caller, _):
        replies = [pb.RankStreamResponse.FromString(r) async for r in caller.stream_bytes(iter(payloads), timeout=5)]
    by_id = {reply.request_id: reply for reply in replies}
    assert replies[-1].request_id == "r0"
    assert by_id["r0"].ranking.tier_reason == "scores_late"
    assert by_id["r9"].ranking.tier == pb.TIER_FULL
    assert (by_id["r7"].refusal.code, by_id["r7"].number) == (3, 70)
    assert "row 1 is -1.0" in by_id["r7"].refusal.message
    assert not by_id["r7"].refusal.HasField("retry_pushback_ms")
    assert by_id[""].refusal.message == "the payload is not a RankRequest message"


async def test_a_streams_request_says_its_number_and_how_long_its_caller_waits(
    calling: Any, scripted: Any, make_message: Make, catalog: Catalog
) -> None:
    asked = [(1, 0), (2**63, 100_000), (3, 2**40)]
    payloads = []
    for number, timeout_us in asked:
        message = make_message(3, seed=9)
        message.number, message.timeout_us = number, timeout_us
        payloads.append(message.SerializeToString())
    async with calling(scripted(None)) as (caller, _):
        replies = [pb.RankStreamResponse.FromString(r) async for r in caller.stream_bytes(iter(payloads), timeout=5)]
    budget_us = round(1e6 * catalog["feed_click"].budget_s)
    given = {reply.number: reply.ranking.ledger.budget_us for reply in replies}
    assert given == pytest.approx({1: budget_us, 2**63: 100_000, 3: budget_us}, abs=1)


async def test_a_stream_works_on_a_bounded_number_and_answers_all(
    calling: Any, scripted: Any, make_message: Make
) -> None:
    most = 0

    async def count(query: RankQuery, _: Deadline) -> Scores:
        nonlocal most
        most = max(most, scorer.held)
        await asyncio.sleep(0.002)
        return Scores(np.full((len(query), 2), 0.5, np.float32))

    scorer = scripted(count)
    payloads = [make_message(1, seed=seed).SerializeToString() for seed in range(5 * IN_FLIGHT)]
    async with calling(scorer) as (caller, _):
        replies = [pb.RankStreamResponse.FromString(r) async for r in caller.stream_bytes(iter(payloads), timeout=20)]
    assert {reply.request_id for reply in replies} == {f"r{seed}" for seed in range(5 * IN_FLIGHT)}
    assert len(replies) == 5 * IN_FLIGHT
    assert 1 < most <= IN_FLIGHT


async def test_a_cancelled_stream_leaves_nothing_behind(
    calling: Any, scripted: Any, make_message: Make, eventually: Any
) -> None:
    scorer = scripted(_hang)
    async with calling(scorer) as (caller, worker):
        call = caller.stream_bytes(timeout=5)
        for seed in range(5):
            await call.write(make_message(3, seed=seed).SerializeToString())
        await eventually(lambda: scorer.seen == 5)
        call.cancel()
        await eventually(lambda: scorer.held == 0 and worker.watchdog.running == 0)


async def _all_of(call: Any) -> tuple[list[str], grpc.StatusCode]:
    """The replies of a stream by request, and how it ended."""
    replies: list[str] = []
    with suppress(grpc.aio.AioRpcError):
        async for reply in call:
            replies += [pb.RankStreamResponse.FromString(reply).request_id]
    return replies, await call.code()


@pytest.mark.parametrize(("asked", "most"), [(1, 1), (5, 10_000), (IN_FLIGHT, 10_000)])
async def test_a_drain_answers_what_was_read_of_a_stream_and_ends_it(
    calling: Any, scripted: Any, make_message: Make, *, eventually: Any, asked: int, most: int
) -> None:
    async def takes_a_while(query: RankQuery, _: Deadline) -> Scores:
        await asyncio.sleep(0.05)
        return Scores(np.full((len(query), 2), 0.5, np.float32))

    read: list[Any] = []
    async with calling(scripted(takes_a_while), drain_s=10.0) as (caller, worker):
        worker.hooks.add(read.append)
        call = caller.stream_bytes(timeout=20)
        for seed in range(asked):
            await call.write(make_message(3, seed=seed).SerializeToString())
        await eventually(lambda: worker.hooks.in_flight + len(read) == asked)

        async def go_on() -> None:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # until nobody listens any more
                for seed in range(asked, most):
                    await call.write(make_message(3, seed=seed).SerializeToString())
                    await asyncio.sleep(0.01)

        writing, reading = asyncio.create_task(go_on()), asyncio.create_task(_all_of(call))
        began_s = time.monotonic()
        await worker.stop()
        assert time.monotonic() - began_s < 5
        replies, code = await reading
        await writing
    assert code is grpc.StatusCode.UNAVAILABLE
    assert len(replies) == len(read) >= asked
    assert set(replies) == {f"r{seed}" for seed in range(len(replies))}


async def test_an_answer_is_refused_past_its_deadline(calling: Any, scripted: Any, make_message: Make) -> None:
    async def stalls(*_: Any) -> Scores:
        time.sleep(0.25)  # noqa: ASYNC251 the whole loop, so that nothing can be in time
        raise BusyError("full")

    async with calling(scripted(stalls)) as (caller, worker):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.rank(make_message(3))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert worker.state()["verticals"]["feed_click"]["answers"] == {"deadline_exceeded": 1}


async def test_outcomes_are_not_offered_and_verticals_are_described(
    calling: Any, scripted: Any, catalog: Catalog
) -> None:
    nobody = pb.DescribeVerticalRequest(vertical="nobody").SerializeToString()
    async with calling(scripted()) as (caller, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.method("RecordOutcomes")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        for payload, code in ((b"\xff", "INVALID_ARGUMENT"), (nobody, "NOT_FOUND")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.method("DescribeVertical")(payload)
            assert caught.value.code().name == code
        payload = pb.DescribeVerticalRequest(vertical="feed_long_view").SerializeToString()
        said = pb.DescribeVerticalResponse.FromString(await caller.method("DescribeVertical")(payload))
        first = pb.DescribeVerticalResponse.FromString(await caller.method("DescribeVertical")(b""))
    assert (first.vertical, list(first.verticals)) == (min(catalog), sorted(catalog))
    assert said.schema_hash == catalog["feed_long_view"].schema.digest


async def test_health_follows_the_canary_and_the_drain(calling: Any, scripted: Any) -> None:
    asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE)]
    async with calling(scripted()) as (caller, worker):
        for request in asked:
            assert (await caller.health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        watch = caller.health.Watch(asked[1])
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(worker.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await stopping


async def test_requests_in_flight_end_before_the_server_does(
    calling: Any, scripted: Any, make_message: Make, eventually: Any
) -> None:
    scorer = scripted(_hang)
    async with calling(scorer) as (caller, worker):
        request = asyncio.create_task(caller.rank(make_message(5)))
        await eventually(lambda: scorer.held)
        await worker.stop()
        assert (await request).tier_reason == "scores_late"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.rank(make_message(5))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
