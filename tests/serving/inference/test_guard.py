import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.budget.deadline import Deadline
from serving.catalog import Catalog
from serving.errors import BadScoresError, BusyError, LateError, SchemaMismatchError, UnavailableError
from serving.inference.breaker import Cause
from serving.inference.canary import Canary, Finding
from serving.inference.guard import GuardedScorer
from serving.inference.scorer import Scores
from serving.query import RankQuery


class Puppet:
    """Answers everything, canaries too, as `does` says: a delay, an offset or an error."""

    def __init__(self, known: Any) -> None:
        self._known = known
        self.does: Any = None

    async def score(self, query: RankQuery, until: Deadline) -> Scores:  # noqa: ARG002 the protocol's
        if isinstance(self.does, Exception):
            raise self.does
        if self.does == "slow":
            await asyncio.sleep(query.vertical.budget_s * 1.5)
        if self.does == "hang":
            await asyncio.sleep(60)
        off = self.does if isinstance(self.does, float) else 0.0
        return Scores(np.clip(self._known + np.float32(off), 0, 1))


@pytest.fixture
def puppet(catalog: Catalog) -> Puppet:
    return Puppet(catalog["feed_click"].golden.probability)


@pytest.fixture
def guard(catalog: Catalog, puppet: Puppet) -> GuardedScorer:
    return GuardedScorer(puppet, Canary(replace(catalog["feed_click"], budget_s=0.04), patience_s=0.2))


@pytest.mark.parametrize(
    ("does", "finding"),
    [
        (None, Finding.PASSED),
        (5e-5, Finding.PASSED),
        (0.01, Finding.WRONG),
        (BadScoresError("empty"), Finding.WRONG),
        (RuntimeError("ours"), Finding.WRONG),
        ("slow", Finding.SLOW),
        ("hang", Finding.SILENT),
        (LateError("queue"), Finding.SILENT),
        (BusyError("full"), Finding.BUSY),
        (UnavailableError("gone"), Finding.GONE),
    ],
)
async def test_trust_begins_with_the_right_answer_in_time_and_nothing_else(
    guard: GuardedScorer, puppet: Puppet, does: Any, finding: Finding
) -> None:
    assert not guard.trusted
    puppet.does = does
    assert (await guard.check()).finding is finding
    assert guard.trusted is (finding is Finding.PASSED)


@pytest.mark.parametrize(
    ("does", "rounds"), [(0.01, 1), (UnavailableError("gone"), 1), (BadScoresError("empty"), 1), ("hang", 2)]
)
async def test_trust_ends(guard: GuardedScorer, puppet: Puppet, does: Any, rounds: int) -> None:
    await guard.check()
    puppet.does = does
    for _ in range(rounds):
        assert guard.trusted
        await guard.check()
    assert not guard.trusted
    puppet.does = None
    await guard.check()
    assert guard.trusted


async def test_slow_right_answers_keep_trust(guard: GuardedScorer, puppet: Puppet) -> None:
    await guard.check()
    puppet.does = "slow"
    for _ in range(3):
        await guard.check()
    assert guard.trusted


@pytest.mark.parametrize(("share", "finding"), [(0.7, Finding.PASSED), (0.9, Finding.SLOW), (1.1, Finding.SLOW)])
async def test_the_canary_leaves_a_requests_own_part_of_the_budget(
    catalog: Catalog, clock: Any, share: float, finding: Finding
) -> None:
    vertical = catalog["feed_click"]

    class Late:
        async def score(self, query: RankQuery, until: Deadline) -> Scores:  # noqa: ARG002 the protocol's
            clock.now_s += share * vertical.budget_s
            return Scores(vertical.golden.probability)

    assert (await Canary(vertical, clock=clock).fly(Late())).finding is finding


async def test_silence_counts_in_a_row_only(guard: GuardedScorer, puppet: Puppet) -> None:
    await guard.check()
    for does in (LateError("1"), None, LateError("1"), None):
        puppet.does = does
        await guard.check()
        assert guard.trusted


async def test_requests_pass_only_with_trust(guard: GuardedScorer, make_query: Any) -> None:
    with pytest.raises(UnavailableError, match="canary"):
        await guard.score(make_query(), Deadline.after(1))
    await guard.check()
    assert (await guard.score(make_query(), Deadline.after(1))).probability.shape == (8, 2)


async def test_a_lost_connection_ends_the_trust_before_the_next_canary(
    guard: GuardedScorer, puppet: Puppet, make_query: Any
) -> None:
    doubts = []
    guard.on_doubt = lambda: doubts.append(1)
    await guard.check()
    puppet.does = UnavailableError("reset")
    with pytest.raises(UnavailableError, match="reset"):
        await guard.score(make_query(), Deadline.after(1))
    assert not guard.trusted
    assert doubts == [1]


@pytest.fixture
def make_query(catalog: Catalog) -> Callable[[], RankQuery]:
    vertical = catalog["feed_click"]
    return lambda: RankQuery("r", vertical, vertical.golden.inputs, np.arange(8), np.ones(8))


async def _give_up_after(guard: GuardedScorer, query: RankQuery, seconds: float, within_s: float) -> None:
    task = asyncio.create_task(guard.score(query, Deadline.after(within_s)))
    await asyncio.wait((task,), timeout=seconds)
    task.cancel()
    await asyncio.wait((task,))


async def _ask_in_vain(guard: GuardedScorer, query: RankQuery) -> None:
    """For two budgets of 20 ms, and a little."""
    tight = replace(query, vertical=replace(query.vertical, budget_s=0.02))
    for _ in range(5):
        await _give_up_after(guard, tight, 0.012, 0.012)


async def test_unanswered_requests_end_the_trust_long_before_canaries_would(
    guard: GuardedScorer, puppet: Puppet, make_query: Any
) -> None:
    doubts = []
    guard.on_doubt = lambda: doubts.append(guard.breaker.cause)
    await guard.check()
    puppet.does = "hang"
    await _ask_in_vain(guard, make_query())
    assert not guard.trusted
    assert doubts == [Cause.SILENT]
    with pytest.raises(UnavailableError, match="canary"):
        await guard.score(make_query(), Deadline.after(1))


async def test_callers_that_give_up_early_end_no_trust(catalog: Catalog, puppet: Puppet, make_query: Any) -> None:
    guard = GuardedScorer(puppet, Canary(catalog["feed_click"]), p99_s=lambda _: 0.05)
    await guard.check()
    puppet.does = "hang"
    for _ in range(5):
        await _give_up_after(guard, make_query(), 0.001, 1.0)
    assert guard.trusted


async def test_a_slow_answer_ends_silence_but_not_an_absence(
    guard: GuardedScorer, puppet: Puppet, make_query: Any
) -> None:
    for does, back in (("hang", True), (UnavailableError("gone"), False)):
        puppet.does = None
        await guard.check()
        puppet.does = does
        await _ask_in_vain(guard, make_query())
        assert not guard.trusted
        puppet.does = "slow"
        await guard.check()
        assert guard.trusted is back


async def test_who_is_new_or_was_gone_is_vetted_before_the_canary(
    catalog: Catalog, puppet: Puppet, make_query: Any
) -> None:
    vetted: list[str] = []
    answers: list[Exception | None] = [UnavailableError("no model"), SchemaMismatchError("another schema"), None, None]

    async def vet() -> None:
        vetted.append("")
        if error := answers[len(vetted) - 1]:
            raise error

    passed: list[bool] = []
    guard = GuardedScorer(puppet, Canary(catalog["feed_click"]), "gpu1", vet=vet)
    guard.on_pass = lambda _, fresh: passed.append(fresh)
    assert (await guard.check()).finding is Finding.GONE
    assert (await guard.check()).finding is Finding.WRONG
    assert guard.last == "wrong: another schema"
    assert (await guard.check()).finding is Finding.PASSED
    await guard.check()
    assert (len(vetted), passed) == (3, [True, False])
    puppet.does = UnavailableError("reset")
    with pytest.raises(UnavailableError):
        await guard.score(make_query(), Deadline.after(1))
    puppet.does = None
    await guard.check()
    assert (len(vetted), passed) == (4, [True, False, True])


async def test_a_cancelled_canary_leaves_no_breaker_half_open(guard: GuardedScorer, puppet: Puppet) -> None:
    puppet.does = "hang"
    checking = asyncio.create_task(guard.check())
    await asyncio.sleep(0.01)
    assert guard.breaker.state.value == "half_open"
    checking.cancel()
    await asyncio.wait((checking,))
    assert guard.breaker.state.value == "open"
