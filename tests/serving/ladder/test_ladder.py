import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog
from serving.errors import BackendError, BadScoresError, BusyError, LateError, UnavailableError
from serving.inference.scorer import Scorer, Scores
from serving.ladder.ladder import Ladder, Rung
from serving.ladder.tier import REASON_OF, Reason, Tier
from serving.query import RankQuery
from serving.rpc.codec import decode

Scripted = Callable[..., Scorer]


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(make_message(3), catalog["feed_click"])


def _ladder(query: RankQuery, *rungs: Rung) -> Ladder:
    return Ladder(rungs, query.vertical.prior, Watchdog())


def _raising(error: Exception) -> Callable[[RankQuery, Deadline], Awaitable[Scores]]:
    async def fail(*_: Any) -> Scores:
        raise error

    return fail


async def test_the_best_rung_answers(query: RankQuery, scripted: Scripted) -> None:
    ladder = _ladder(query, Rung(Tier.FULL, scripted()))
    answer = await ladder.answer(query, Deadline.after(1))
    assert (answer.tier, answer.reason) == (Tier.FULL, Reason.NONE)
    assert ladder.tiers == (Tier.FULL, Tier.PRIOR)


@pytest.mark.parametrize("kind", [LateError, BusyError, UnavailableError, BadScoresError])
async def test_each_failure_of_the_backend_is_answered_by_the_prior_with_its_reason(
    query: RankQuery, scripted: Scripted, kind: type[BackendError]
) -> None:
    ladder = _ladder(query, Rung(Tier.FULL, scripted(_raising(kind("no")))))
    answer = await ladder.answer(query, Deadline.after(1))
    assert (answer.tier, answer.reason) == (Tier.PRIOR, REASON_OF[kind])
    np.testing.assert_array_equal(answer.probability, np.full((3, 2), 0.25, np.float32))


async def test_a_fault_in_a_scorer_is_logged_and_answered(
    query: RankQuery, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = _ladder(query, Rung(Tier.FULL, scripted(_raising(ZeroDivisionError("ours")))))
    answer = await ladder.answer(query, Deadline.after(1))
    assert (answer.tier, answer.reason) == (Tier.PRIOR, Reason.SCORER_FAILED)
    assert "ZeroDivisionError" in caplog.text


async def test_a_lower_rung_answers_where_the_better_one_failed_quickly(query: RankQuery, scripted: Scripted) -> None:
    rungs = Rung(Tier.FULL, scripted(_raising(BusyError("full")))), Rung(Tier.LITE, scripted())
    answer = await _ladder(query, *rungs).answer(query, Deadline.after(1))
    assert (answer.tier, answer.reason) == (Tier.LITE, Reason.BACKEND_BUSY)


async def test_without_time_nothing_is_asked(query: RankQuery, scripted: Callable[..., Any]) -> None:
    scorer = scripted(_raising(AssertionError("asked")))
    answer = await _ladder(query, Rung(Tier.FULL, scorer)).answer(query, Deadline.after(-0.001))
    assert (answer.tier, answer.reason, scorer.seen) == (Tier.PRIOR, Reason.NO_TIME, 0)


async def test_a_late_rung_leaves_no_time_for_the_next(query: RankQuery, scripted: Callable[..., Any]) -> None:
    async def hang(*_: Any) -> Scores:
        await asyncio.sleep(60)
        raise AssertionError

    second = scripted(_raising(AssertionError("asked")))
    rungs = Rung(Tier.FULL, scripted(hang)), Rung(Tier.LITE, second)
    answer = await _ladder(query, *rungs).answer(query, Deadline.after(0.01))
    assert (answer.tier, answer.reason, second.seen) == (Tier.PRIOR, Reason.SCORES_LATE, 0)
