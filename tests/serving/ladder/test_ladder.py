import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving.admission.gate import Gate
from serving.admission.permit import Outcome
from serving.admission.priority import Priority
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog
from serving.errors import BackendError, BadScoresError, BusyError, LateError, OverloadedError, UnavailableError
from serving.inference.scorer import Scorer, Scores
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Answer, Ladder
from serving.ladder.lane import Lane, Rung
from serving.ladder.tier import REASON_OF, Reason, Tier
from serving.query import RankQuery
from serving.rpc.codec import decode, parse

Scripted = Callable[..., Scorer]
MakeGate = Callable[..., Gate]


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(3).SerializeToString()), catalog["feed_click"])


@pytest.fixture
def gate(make_gate: MakeGate) -> Gate:
    return make_gate()


def _rung(tier: Tier, scorer: Scorer, service_s: float = 0.002) -> Rung:
    return Rung(tier, scorer, Estimates(64, service_s))


def _ladder(query: RankQuery, gate: Gate, *rungs: Rung, fewest: int = 16) -> Ladder:
    return Ladder([Lane("here", rungs, gate)], query.vertical.prior, Hedging(Watchdog()), fewest=fewest)


async def _answer(ladder: Ladder, query: RankQuery, within_s: float) -> Answer:
    return await ladder.answer(query, Deadline.after(within_s), Deadline.after(within_s + 0.01))


def _raising(error: Exception) -> Callable[[RankQuery, Deadline], Awaitable[Scores]]:
    async def fail(*_: Any) -> Scores:
        raise error

    return fail


async def _hang(*_: Any) -> Scores:
    await asyncio.sleep(60)
    raise AssertionError


async def test_the_best_rung_answers(query: RankQuery, scripted: Scripted, gate: Gate) -> None:
    rung = _rung(Tier.FULL, scripted())
    ladder = _ladder(query, gate, rung)
    answer = await _answer(ladder, query, 1)
    assert (answer.tier, answer.reason) == (Tier.FULL, Reason.NONE)
    assert ladder.tiers == (Tier.FULL, Tier.PRIOR)
    assert gate.counts()[Priority.LIVE, Outcome.SUCCEEDED] == rung.estimates.calls == 1
    assert gate.in_flight_s == 0


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (LateError, Outcome.DROPPED),
        (BusyError, Outcome.DROPPED),
        (UnavailableError, Outcome.IGNORED),
        (BadScoresError, Outcome.IGNORED),
    ],
)
async def test_each_failure_of_the_backend_is_answered_by_the_prior_with_its_reason(
    query: RankQuery, scripted: Scripted, gate: Gate, *, eventually: Any, kind: type[BackendError], outcome: Outcome
) -> None:
    ladder = _ladder(query, gate, _rung(Tier.FULL, scripted(_raising(kind("no")))))
    answer = await _answer(ladder, query, 1)
    assert (answer.tier, answer.reason) == (Tier.PRIOR, REASON_OF[kind])
    np.testing.assert_array_equal(answer.probability, np.full((3, 2), 0.25, np.float32))
    await eventually(lambda: gate.counts()[Priority.LIVE, outcome] == 1 and gate.in_flight_s == 0)


async def test_a_fault_in_a_scorer_is_logged_and_answered(
    query: RankQuery, scripted: Scripted, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = _ladder(query, gate, _rung(Tier.FULL, scripted(_raising(ZeroDivisionError("ours")))))
    answer = await _answer(ladder, query, 1)
    assert (answer.tier, answer.reason) == (Tier.PRIOR, Reason.SCORER_FAILED)
    assert "ZeroDivisionError" in caplog.text
    assert gate.in_flight_s == 0


async def test_a_lower_rung_answers_where_the_better_one_failed_quickly(
    query: RankQuery, scripted: Scripted, gate: Gate
) -> None:
    rungs = _rung(Tier.FULL, scripted(_raising(BusyError("full")))), _rung(Tier.LITE, scripted())
    answer = await _answer(_ladder(query, gate, *rungs), query, 1)
    assert (answer.tier, answer.reason) == (Tier.LITE, Reason.BACKEND_BUSY)


async def test_the_scorer_that_failed_is_not_asked_again_for_less(
    query: RankQuery, scripted: Callable[..., Any], gate: Gate
) -> None:
    scorer = scripted(_raising(BusyError("full")))
    ladder = _ladder(query, gate, _rung(Tier.FULL, scorer), _rung(Tier.TRIMMED, scorer), fewest=1)
    answer = await _answer(ladder, query, 1)
    assert (answer.tier, answer.reason, scorer.seen) == (Tier.PRIOR, Reason.BACKEND_BUSY, 1)


async def test_a_trimmed_answer_has_the_scored_ones_first_and_the_rest_by_the_prior(
    catalog: Catalog, make_message: Callable[..., Any], scripted: Callable[..., Any], make_gate: MakeGate
) -> None:
    query = decode(parse(make_message(200).SerializeToString()), catalog["feed_click"])
    sizes: list[int] = []

    async def score(asked: RankQuery, _: Deadline) -> Scores:
        sizes.append(len(asked))
        return Scores(np.full((len(asked), 2), 1e-3, np.float32))

    gate = make_gate(0.003)
    busy = gate.try_enter(0.001)
    scorer = scripted(score)
    ladder = _ladder(query, gate, _rung(Tier.FULL, scorer), _rung(Tier.TRIMMED, scorer))
    answer = await _answer(ladder, query, 1)
    assert (answer.tier, answer.reason) == (Tier.TRIMMED, Reason.NO_ROOM)
    # 2 ms of room are left, of which the seed's base takes one; 64 candidates take another.
    assert sizes == [64]
    expected = query.bids * answer.probability[:, 0]
    scored = answer.probability[:, 0] == np.float32(1e-3)
    assert scored.sum() == 64
    assert [not answer.by_prior(each) for each in range(len(query))] == scored.tolist()
    assert expected[~scored].max() < expected[scored].min()
    assert busy


async def test_without_time_nothing_is_asked(query: RankQuery, scripted: Callable[..., Any], gate: Gate) -> None:
    scorer = scripted(_raising(AssertionError("asked")))
    answer = await _answer(_ladder(query, gate, _rung(Tier.FULL, scorer)), query, -0.001)
    assert (answer.tier, answer.reason, scorer.seen) == (Tier.PRIOR, Reason.NO_TIME, 0)


async def test_without_time_for_the_prior_the_request_is_shed(
    query: RankQuery, scripted: Callable[..., Any], gate: Gate
) -> None:
    with pytest.raises(OverloadedError):
        await _answer(_ladder(query, gate, _rung(Tier.FULL, scripted())), query, -0.02)


async def test_a_late_rung_leaves_no_time_for_the_next_and_holds_its_permit_a_while(
    query: RankQuery, scripted: Callable[..., Any], gate: Gate, eventually: Any
) -> None:
    second = scripted(_raising(AssertionError("asked")))
    rungs = _rung(Tier.FULL, scripted(_hang)), _rung(Tier.LITE, second)
    answer = await _answer(_ladder(query, gate, *rungs), query, 0.01)
    assert (answer.tier, answer.reason, second.seen) == (Tier.PRIOR, Reason.SCORES_LATE, 0)
    assert gate.in_flight_s > 0
    await eventually(lambda: gate.counts()[Priority.LIVE, Outcome.DROPPED] == 1 and gate.in_flight_s == 0)
    assert rungs[0].estimates.coverage == 0


async def test_a_cancelled_request_gives_its_permit_back_when_its_call_must_have_ended(
    query: RankQuery, scripted: Callable[..., Any], gate: Gate, eventually: Any
) -> None:
    scorer = scripted(_hang)
    task = asyncio.create_task(_answer(_ladder(query, gate, _rung(Tier.FULL, scorer)), query, 5))
    await eventually(lambda: scorer.held == 1)
    task.cancel()
    await asyncio.wait((task,))
    assert gate.in_flight_s > 0
    await eventually(lambda: gate.counts()[Priority.LIVE, Outcome.IGNORED] == 1 and gate.in_flight_s == 0)
