"""Every request is told of once, however it ends."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from serving.query import RankQuery
from serving.rpc.pb import ranking_pb2 as pb
from serving.telemetry.hooks import Details, Hooks
from serving.telemetry.recent import Recent

RANK = "/exfm.ranking.v1.RankingService/Rank"


async def test_answers_and_refusals_are_told_with_what_is_known_of_them(
    running: Callable[..., Any], scripted: Callable[..., Any], make_message: Callable[..., pb.RankRequest]
) -> None:
    told: list[Details] = []
    bad = make_message(5)
    del bad.ad_ids[:]
    async with running(scripted()) as (address, worker), grpc.aio.insecure_channel(address) as channel:
        worker.hooks.add(told.append)
        rank: Any = channel.unary_unary(RANK)
        response = pb.RankResponse.FromString(await rank(make_message(5).SerializeToString()))
        for payload in (bad.SerializeToString(), b"\xff"):
            with pytest.raises(grpc.aio.AioRpcError):
                await rank(payload)
        state = worker.state()
    answered, refused, garbage = told
    assert (answered.vertical, answered.tier, answered.code) == ("feed_click", "full", "OK")
    assert (answered.candidates, answered.reason, answered.priority) == (5, "", "live")
    assert [name for name, _ in answered.stages] == [stage.name for stage in response.ledger.stages]
    assert sum(spent for _, spent in answered.stages) <= answered.spent_s <= answered.budget_s
    assert (refused.vertical, refused.tier, refused.code) == ("feed_click", "", "INVALID_ARGUMENT")
    assert (garbage.vertical, garbage.budget_s, garbage.code) == ("", 0.0, "INVALID_ARGUMENT")
    assert state["in_flight"] == 0
    assert state["verticals"]["feed_click"]["answers"] == {"full": 1, "invalid_argument": 1}
    assert 0 < state["verticals"]["feed_click"]["p99_of_budget"] <= 1


async def test_a_request_that_its_caller_gives_up_is_told_as_cancelled(
    running: Callable[..., Any],
    scripted: Callable[..., Any],
    make_message: Callable[..., pb.RankRequest],
    eventually: Callable[..., Any],
) -> None:
    told: list[Details] = []

    async def never(_: RankQuery, __: object) -> Any:
        await asyncio.Event().wait()

    scorer = scripted(never)
    async with running(scorer) as (address, worker), grpc.aio.insecure_channel(address) as channel:
        worker.hooks.add(told.append)
        rank: Any = channel.unary_unary(RANK)
        call = rank(make_message(5).SerializeToString())
        await eventually(lambda: scorer.seen == 1)
        assert worker.state()["in_flight"] == 1
        call.cancel()
        await eventually(lambda: len(told) == 1)
        assert worker.hooks.in_flight == 0
    assert told[0].code == "CANCELLED"


def _details(spent_s: float = 0.01, tier: str = "full", code: str = "OK") -> Details:
    return Details("feed", tier, "", code, 5, 0.02, spent_s, (("score", spent_s),))


def test_a_hook_that_fails_is_logged_once_and_does_not_keep_others_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from serving.budget.deadline import Arrival

    hooks = Hooks()
    told: list[Details] = []

    def broken(_: Details) -> None:
        raise ValueError("broken")

    hooks.add(broken)
    hooks.add(told.append)
    for _ in range(3):
        hooks.close(hooks.open(Arrival(1.0)), "OK")
    assert len(told) == 3
    assert len(caplog.records) == 1


def test_percentiles_are_those_of_the_last_answers() -> None:
    recent = Recent(window=100)
    assert recent.of("feed")["p99_ms"] is None
    for number in range(1000):
        recent(_details(spent_s=1.0 if number < 900 else (number - 899) / 1e4))
    recent(_details(tier="", code="RESOURCE_EXHAUSTED"))
    said = recent.of("feed")
    assert said["p50_ms"] == pytest.approx(5.0)
    assert said["p99_ms"] == pytest.approx(9.9)
    assert said["p99_of_budget"] == pytest.approx(0.495)
    assert said["answers"] == {"full": 1000, "resource_exhausted": 1}
