"""Two backends behind one ladder: what hangs or fails on one is made up for by the other, within tokens and room."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from serving.admission.gate import Gate
from serving.admission.permit import Outcome
from serving.admission.priority import Priority
from serving.balance.tokens import HedgeTokens
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog
from serving.errors import BusyError, LateError
from serving.inference.scorer import Scores
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Answer, Ladder
from serving.ladder.lane import Lane, Rung
from serving.ladder.tier import Reason, Tier
from serving.query import RankQuery
from serving.rpc.codec import decode, parse


class Pair:
    """A ladder over two backends; the first one is asked first, for it is expected to be quicker."""

    def __init__(self, first: Any, second: Any, gates: tuple[Gate, Gate], tokens: HedgeTokens | None) -> None:
        self.scorers, self.gates, self.tokens = (first, second), gates, tokens
        self.watchdog = Watchdog()
        self.estimates = (Estimates(64, 0.002), Estimates(64, 0.004))
        self.lanes = [
            Lane(name, (Rung(Tier.FULL, scorer, estimates),), gate)
            for name, scorer, estimates, gate in zip("ab", self.scorers, self.estimates, gates, strict=True)
        ]

    async def answer(self, query: RankQuery, within_s: float = 5.0) -> Answer:
        ladder = Ladder(self.lanes, query.vertical.prior, Hedging(self.watchdog, self.tokens))
        return await ladder.answer(query, Deadline.after(within_s), Deadline.after(within_s + 0.01))

    def ended(self, number: int, outcome: Outcome) -> int:
        return self.gates[number].counts()[Priority.LIVE, outcome]

    def quiet(self) -> bool:
        return self.watchdog.running == 0 and all(gate.calls == 0 for gate in self.gates)


@pytest.fixture
def pair(scripted: Any, make_gate: Any) -> Callable[..., Pair]:
    """`pair(first, second, tokens=..., room_s=10.0)`: behaviours of the two backends."""

    def make(first: Any, second: Any = None, tokens: HedgeTokens | None = None, room_s: float = 10.0) -> Pair:
        return Pair(scripted(first), scripted(second), (make_gate(), make_gate(room_s)), tokens)

    return make


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(3).SerializeToString()), catalog["feed_click"])


async def _hang(*_: Any) -> Scores:
    await asyncio.sleep(60)
    raise AssertionError


async def _full(*_: Any) -> Scores:
    raise BusyError("full")


async def test_a_call_that_hangs_is_answered_by_the_other_backend(pair: Any, query: RankQuery, eventually: Any) -> None:
    tokens = HedgeTokens()
    two = pair(_hang, tokens=tokens)
    answer = await two.answer(query)
    assert (answer.tier, answer.reason) == (Tier.FULL, Reason.NONE)
    assert (tokens.taken, tokens.won) == (1, 1)
    await eventually(two.quiet)
    assert two.ended(0, Outcome.IGNORED) == two.ended(1, Outcome.SUCCEEDED) == 1
    # The one that hangs is known as slow although nobody has waited for it.
    assert two.estimates[0].coverage == 0


async def test_a_call_that_answers_in_its_time_has_no_second(pair: Any, query: RankQuery) -> None:
    tokens = HedgeTokens()
    two = pair(None, tokens=tokens)
    assert (await two.answer(query)).tier is Tier.FULL
    assert (tokens.taken, two.scorers[1].seen, two.ended(0, Outcome.SUCCEEDED)) == (0, 0, 1)


async def test_the_first_may_still_win(pair: Any, query: RankQuery, eventually: Any) -> None:
    async def slow(query: RankQuery, _: Deadline) -> Scores:
        await asyncio.sleep(0.05)
        return Scores(query.vertical.prior.lookup(query.ads))

    tokens = HedgeTokens()
    two = pair(slow, _hang, tokens)
    assert (await two.answer(query)).tier is Tier.FULL
    assert (tokens.taken, tokens.won) == (1, 0)
    await eventually(two.quiet)
    assert two.ended(0, Outcome.SUCCEEDED) == two.ended(1, Outcome.IGNORED) == 1


async def test_both_hang_and_the_prior_answers_at_the_deadline(pair: Any, query: RankQuery, eventually: Any) -> None:
    two = pair(_hang, _hang, HedgeTokens())
    answer = await two.answer(query, 0.05)
    assert (answer.tier, answer.reason) == (Tier.PRIOR, Reason.SCORES_LATE)
    await eventually(two.quiet)
    assert two.ended(0, Outcome.DROPPED) == two.ended(1, Outcome.DROPPED) == 1


@pytest.mark.parametrize("why", ["no tokens", "no room", "no trust", "no time"])
async def test_without_the_means_nobody_else_is_asked(pair: Any, query: RankQuery, eventually: Any, why: str) -> None:
    tokens = HedgeTokens()
    two = pair(_hang, tokens=tokens, room_s=1.0)
    held = two.gates[1].try_enter(0.9999) if why == "no room" else None
    if why == "no tokens":
        while tokens.take():
            pass
    if why == "no trust":
        (rung,) = two.lanes[1].rungs
        two.lanes[1] = Lane("b", (Rung(rung.tier, rung.scorer, rung.estimates, lambda: False),), two.gates[1])
    if why == "no time":
        two.estimates[1].seed(64, 10.0)
    answer = await two.answer(query, 0.05)
    assert (answer.tier, two.scorers[1].seen) == (Tier.PRIOR, 0)
    if held:
        held.ignore()
    await eventually(two.quiet)


async def test_a_failure_moves_the_request_on_at_once_and_without_a_token(pair: Any, query: RankQuery) -> None:
    tokens = HedgeTokens()
    two = pair(_full, tokens=tokens)
    answer = await two.answer(query)
    assert (answer.tier, answer.reason, tokens.taken) == (Tier.FULL, Reason.NONE, 0)
    assert two.ended(0, Outcome.DROPPED) == two.ended(1, Outcome.SUCCEEDED) == 1


async def test_no_room_at_one_backend_moves_the_request_on(pair: Any, query: RankQuery) -> None:
    two = pair(None)
    held = two.gates[0].try_enter(9.99999)
    answer = await two.answer(query, 30.0)
    assert (answer.tier, two.ended(1, Outcome.SUCCEEDED)) == (Tier.FULL, 1)
    assert held


async def test_a_cancelled_request_lets_go_of_both(pair: Any, query: RankQuery, eventually: Any) -> None:
    two = pair(_hang, _hang, HedgeTokens())
    task = asyncio.create_task(two.answer(query))
    await eventually(lambda: two.scorers[1].held == 1)
    task.cancel()
    await asyncio.wait((task,))
    await eventually(lambda: two.quiet() and two.scorers[0].held == two.scorers[1].held == 0)
    assert two.ended(0, Outcome.IGNORED) == two.ended(1, Outcome.IGNORED) == 1


async def test_tries_that_are_cancelled_before_they_begin_give_their_permits_back(
    pair: Any, query: RankQuery, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def abrupt(first: Any, _: float, second: Callable[[], Any]) -> Scores:
        for task in filter(None, (first, second())):
            task.cancel()
        raise LateError("abrupt")

    monkeypatch.setattr("serving.ladder.hedge.race", abrupt)
    two = pair(_hang, _hang, HedgeTokens())
    assert (await two.answer(query, 0.05)).tier is Tier.PRIOR
    await eventually(two.quiet)
    assert two.ended(1, Outcome.LEAKED) == 0
    assert two.ended(1, Outcome.IGNORED) == 1
