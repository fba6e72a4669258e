import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.admission.door import Door
from serving.admission.fixed import FixedLaw
from serving.admission.gate import Gate
from serving.admission.permit import Outcome
from serving.admission.priority import Priority
from serving.budget.deadline import Arrival, Deadline
from serving.budget.estimates import Estimates
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog
from serving.errors import DeadlinePassedError, InvalidRequestError, LateError, OverloadedError, UnknownVerticalError
from serving.inference.scorer import Scores
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Ladder
from serving.ladder.lane import Lane, Rung
from serving.ladder.tier import Tier
from serving.query import RankQuery
from serving.ranker import DOOR_PUSHBACK_MS, Ranker
from serving.rpc.pb import ranking_pb2 as pb

Make = Callable[..., pb.RankRequest]


def _ranker(
    catalog: Catalog,
    scorer: Any,
    clock: Any = None,
    watchdog: Watchdog | None = None,
    gate: Gate | None = None,
    *,
    reserve: ReplyReserve | None = None,
) -> Ranker:
    watchdog, reserve = watchdog or Watchdog(), reserve or ReplyReserve(0.01)
    gate, estimates = gate or Gate(FixedLaw(10.0)), Estimates()
    lane = Lane("here", (Rung(Tier.FULL, scorer, estimates),), gate)
    ladders = {name: Ladder([lane], catalog[name].prior, Hedging(watchdog)) for name in catalog}
    door = Door(0.01)
    return Ranker(catalog, ladders, reserve, door, clock) if clock else Ranker(catalog, ladders, reserve, door)


async def test_stages_are_booked_one_after_another(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any
) -> None:
    async def takes_5_ms(query: RankQuery, _: Deadline) -> Scores:
        clock.now_s += 0.005
        return Scores(query.vertical.prior.lookup(query.ads))

    ranker = _ranker(catalog, scripted(takes_5_ms), clock)
    arrival = Arrival(clock(), None, waited_s=0.003)
    clock.now_s += 0.001
    reply = await ranker.rank(make_message(3).SerializeToString(), arrival)
    stages = {stage.name: stage.duration_us for stage in reply.response.ledger.stages}
    assert stages == {"wait": 4000, "decode": 0, "score": 5000, "order": 0, "encode": 0}
    assert (reply.response.ledger.spent_us, reply.response.ledger.budget_us) == (9000, 200_000)


async def test_the_scorer_is_told_to_be_done_a_reserve_before_the_deadline(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any
) -> None:
    left: list[float] = []

    async def note(query: RankQuery, until: Deadline) -> Scores:
        left.append(until.remaining_s())
        return Scores(query.vertical.prior.lookup(query.ads))

    ranker = _ranker(catalog, scripted(note), clock)
    await ranker.rank(make_message(3).SerializeToString(), Arrival(clock(), 0.05))
    await ranker.rank(make_message(3).SerializeToString(), Arrival(clock(), 0.05, waited_s=0.18))
    assert left == pytest.approx([0.04, 0.01])


async def test_a_reply_that_scoring_made_late_began_when_it_was_due(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any
) -> None:
    async def overshoot(query: RankQuery, until: Deadline) -> Scores:
        clock.now_s = until.at_s + 0.007
        return Scores(query.vertical.prior.lookup(query.ads))

    began_s = clock()
    reply = await _ranker(catalog, scripted(overshoot), clock).rank(
        make_message(3).SerializeToString(), Arrival(clock(), 0.05)
    )
    assert clock() - reply.since_s == pytest.approx(0.007)
    assert reply.since_s == pytest.approx(began_s + 0.04)


@pytest.mark.parametrize("fails", [False, True])
async def test_past_the_deadline_there_is_no_answer_and_the_reserve_hears_of_it(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any, fails: bool
) -> None:
    async def overshoot(query: RankQuery, until: Deadline) -> Scores:
        clock.now_s = until.at_s + 0.03
        if fails:
            raise LateError("no scores")
        return Scores(query.vertical.prior.lookup(query.ads))

    reserve = ReplyReserve(0.01, clock)
    ranker = _ranker(catalog, scripted(overshoot), clock, reserve=reserve)
    with pytest.raises(DeadlinePassedError, match="before there was an answer"):
        await ranker.rank(make_message(3).SerializeToString(), Arrival(clock()))
    assert reserve.of(1.0) == pytest.approx(0.03 + ReplyReserve.UNSEEN_S)
    assert (await ranker.rank(make_message(3).SerializeToString(), Arrival(clock()))).response.tier


async def test_a_caller_who_has_stopped_listening_is_refused_before_anything_is_parsed(
    catalog: Catalog, scripted: Any, clock: Any
) -> None:
    with pytest.raises(DeadlinePassedError):
        await _ranker(catalog, scripted(), clock).rank(b"\xff", Arrival(clock(), 0.0))


async def test_a_long_wait_costs_the_model_and_not_the_answer(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any
) -> None:
    ranker = _ranker(catalog, scripted(), clock)
    # The reserve is 10 ms; 8 ms are left for the reply.
    reply = await ranker.rank(make_message(3).SerializeToString(), Arrival(clock(), None, waited_s=0.192))
    assert (reply.response.tier, reply.response.tier_reason) == (pb.TIER_PRIOR, "no_time")


async def test_without_time_even_for_the_prior_the_request_is_shed_with_advice(
    catalog: Catalog, scripted: Any, make_message: Make, clock: Any
) -> None:
    ranker = _ranker(catalog, scripted(), clock)
    with pytest.raises(OverloadedError, match="budget was spent") as caught:
        await ranker.rank(make_message(3).SerializeToString(), Arrival(clock(), None, waited_s=0.196))
    assert caught.value.pushback_ms == 1


async def test_refusals_are_raised_as_they_are(catalog: Catalog, scripted: Any, make_message: Make, clock: Any) -> None:
    ranker = _ranker(catalog, scripted(), clock)
    message = make_message(3)
    message.ads.ids = b""
    with pytest.raises(InvalidRequestError, match=r"block ads\.ids"):
        await ranker.rank(message.SerializeToString(), Arrival(clock()))
    message.vertical = "other"
    with pytest.raises(UnknownVerticalError):
        await ranker.rank(message.SerializeToString(), Arrival(clock()))
    with pytest.raises(UnknownVerticalError):
        ranker.describe("other")
    assert ranker.describe("").vertical == min(catalog)


async def test_cancellation_reaches_the_scorer_and_the_caller(
    catalog: Catalog, scripted: Any, make_message: Make, eventually: Any
) -> None:
    async def hang(*_: Any) -> Scores:
        await asyncio.sleep(60)
        raise AssertionError

    scorer = scripted(hang)
    ranker = _ranker(catalog, scorer)
    arrival = Arrival(asyncio.get_running_loop().time())
    request = asyncio.create_task(ranker.rank(make_message(3).SerializeToString(), arrival))
    await eventually(lambda: scorer.held == 1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await eventually(lambda: scorer.held == 0)


@pytest.mark.parametrize("steps", range(12))
async def test_cancellation_at_any_step_leaves_nothing_behind(
    catalog: Catalog, scripted: Any, make_message: Make, eventually: Any, steps: int
) -> None:
    async def takes_steps(query: RankQuery, until: Deadline) -> Scores:
        assert until.remaining_s() > 0
        for _ in range(5):
            await asyncio.sleep(0)
        return Scores(query.vertical.prior.lookup(query.ads))

    scorer, watchdog, gate = scripted(takes_steps), Watchdog(), Gate(FixedLaw(10.0))
    ranker = _ranker(catalog, scorer, watchdog=watchdog, gate=gate)
    arrival = Arrival(asyncio.get_running_loop().time())
    request = asyncio.create_task(ranker.rank(make_message(3).SerializeToString(), arrival))
    for _ in range(steps):
        await asyncio.sleep(0)
    was_done = request.done()
    request.cancel()
    await asyncio.wait((request,))
    assert request.cancelled() != was_done
    await eventually(lambda: scorer.held == 0 and watchdog.running == 0 and gate.in_flight_s == 0)
    assert gate.counts()[Priority.LIVE, Outcome.LEAKED] == 0


async def refusals_at(door: Door, catalog: Catalog, payload: bytes, waited_s: float = 0.0) -> list[OverloadedError]:
    """What of a hundred requests the door refuses; nothing else could."""
    ladders = {name: Ladder((), catalog[name].prior, Hedging(Watchdog())) for name in catalog}
    ranker = Ranker(catalog, ladders, ReplyReserve(0.01), door)
    calls = [ranker.rank(payload, Arrival(time.monotonic(), None, waited_s)) for _ in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [answer for answer in answers if isinstance(answer, OverloadedError)]


async def test_the_door_refuses_before_any_work_is_done(catalog: Catalog, make_message: Make) -> None:
    door = Door(0.001)
    for _ in range(100):
        door.observe(1.0)
    refusals = await refusals_at(door, catalog, make_message(3).SerializeToString())
    assert 95 <= len(refusals) < 100
    assert {refusal.pushback_ms for refusal in refusals} == {DOOR_PUSHBACK_MS}


async def test_the_door_hears_how_long_a_request_has_waited(catalog: Catalog, make_message: Make) -> None:
    door, payload = Door(0.004), make_message(3).SerializeToString()
    for _ in range(10):
        door.observe(0.005)
    assert len(await refusals_at(door, catalog, payload)) < 30
    assert len(await refusals_at(door, catalog, payload, waited_s=0.012)) > 80
