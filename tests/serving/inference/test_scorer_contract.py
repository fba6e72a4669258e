"""What every scorer promises, whatever it wraps: in time, one of four errors, and nothing kept."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from serving.admission.fixed import FixedLaw
from serving.admission.gate import Gate
from serving.admission.permit import Outcome
from serving.admission.priority import Priority
from serving.balance.tokens import HedgeTokens
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.budget.watchdog import Watchdog
from serving.catalog import Batching, Catalog
from serving.errors import BackendError, BadScoresError, BusyError, LateError, UnavailableError
from serving.inference.scorer import Scorer, Scores
from serving.inference.site import Site
from serving.ladder.call import Call
from serving.ladder.hedge import Hedging
from serving.ladder.lane import Lane, Rung, Want, best_offer
from serving.ladder.tier import Tier
from serving.query import RankQuery
from serving.rpc.codec import decode, parse

ERRORS = (LateError, BusyError, UnavailableError, BadScoresError)


@dataclass
class Subject:
    """A scorer under test, and all that it might keep."""

    scorer: Scorer
    bottom: list[Any]
    gates: list[Gate] = field(default_factory=list)
    watchdog: Watchdog = field(default_factory=Watchdog)

    def clean(self) -> bool:
        counts = [gate.counts()[Priority.LIVE, Outcome.LEAKED] for gate in self.gates]
        return (
            sum(one.held for one in self.bottom) == self.watchdog.running == sum(counts) == 0
            and all(gate.calls == 0 and gate.in_flight_s == 0 for gate in self.gates)
        )  # fmt: skip


class Through:
    """The lanes and the hedging as the ladder uses them, for the full tier alone."""

    def __init__(self, lanes: list[Lane], hedging: Hedging) -> None:
        self._lanes, self._hedging = lanes, hedging

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        offer = best_offer(self._lanes, Want(len(query), until.remaining_s(), float("inf"), 16))
        if offer.lane is None or offer.rung is None:
            raise LateError("no lane would answer in time") if until.remaining_s() <= 0 else BusyError("no lane")
        permit = offer.lane.gate.try_enter(offer.choice.estimate.mean_s)
        if permit is None:
            raise BusyError("no room")
        call = Call(permit, offer.rung, len(query), offer.choice.estimate, ahead_s=offer.choice.ahead_s)
        others = [lane for lane in self._lanes if lane is not offer.lane]
        return await self._hedging.ask(call, query, until, others)


@pytest.fixture(params=["plain", "guarded", "batched", "one lane", "balanced", "hedged"])
async def make_subject(request: pytest.FixtureRequest, catalog: Catalog, scripted: Any) -> Any:
    """`await make_subject(behaviour)`: the scorer of the parameter's kind over backends that behave so."""
    kind = request.param

    async def make(behaviour: Callable[[RankQuery, Deadline], Awaitable[Scores]] | None) -> Subject:
        if kind == "plain":
            bottom = scripted(behaviour)
            watchdog = Watchdog()
            return Subject(_Watched(bottom, watchdog), [bottom], watchdog=watchdog)
        bottoms = [scripted(behaviour) for _ in range(2 if kind in ("balanced", "hedged") else 1)]
        if kind == "batched":
            return await _batched(bottoms[0], catalog)
        gates = [Gate(FixedLaw(10.0)) for _ in bottoms]
        sites = [
            Site(str(number), catalog, dict.fromkeys(catalog, bottom), gates[number])
            for number, bottom in enumerate(bottoms)
        ]
        guards = [site.guards["feed_click"] for site in sites]
        for guard in guards:
            await guard.check()
            assert guard.trusted
        watchdog = Watchdog()
        if kind == "guarded":
            return Subject(_Watched(guards[0], watchdog), bottoms, watchdog=watchdog)
        lanes = [
            Lane(site.backend, (Rung(Tier.FULL, guard, Estimates(64, 0.001), lambda: True),), site.gate)
            for site, guard in zip(sites, guards, strict=True)
        ]
        tokens = HedgeTokens() if kind == "hedged" else None
        return Subject(Through(lanes, Hedging(watchdog, tokens)), bottoms, gates, watchdog)

    return make


async def _batched(bottom: Any, catalog: Catalog) -> Subject:
    models = {name: replace(vertical, batching=Batching(2, 8)) for name, vertical in catalog.items()}
    site = Site("here", models, dict.fromkeys(models, _Together(bottom)), Gate(FixedLaw(10.0)))
    guard, watchdog = site.guards["feed_click"], Watchdog()
    await guard.check()
    assert guard.trusted
    assert site.batchers
    return Subject(_Watched(guard, watchdog), [bottom], watchdog=watchdog)


class _Together:
    """Takes batches, and scores their requests one after the other."""

    def __init__(self, scorer: Scorer) -> None:
        self.score = scorer.score

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores]:
        return [await self.score(query, until) for query in queries]


class _Watched:
    """A scorer that is asked as the ladder asks: under the watchdog's eyes."""

    def __init__(self, scorer: Scorer, watchdog: Watchdog) -> None:
        self._scorer, self._watchdog = scorer, watchdog

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        return await self._watchdog.within(self._scorer.score(query, until), until)


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(3).SerializeToString()), catalog["feed_click"])


async def _hang(*_: Any) -> Scores:
    await asyncio.sleep(60)
    raise AssertionError


class Deaf:
    """Ignores its cancellation until it is let go, as a call into a library may."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self, *_: Any) -> Scores:
        while not self.let_go.is_set():
            with suppress(asyncio.CancelledError):
                await self.let_go.wait()
        raise LateError("at last")


@pytest.fixture(params=["hangs", "deaf"])
def behaviour(request: pytest.FixtureRequest) -> Any:
    """Of a call that doesn't end by itself."""
    return Deaf() if request.param == "deaf" else _hang


def _let_go(behaviour: Any) -> None:
    if isinstance(behaviour, Deaf):
        behaviour.let_go.set()


async def test_scores_come_through_and_nothing_is_kept(make_subject: Any, query: RankQuery, eventually: Any) -> None:
    subject = await make_subject(None)
    scores = await subject.scorer.score(query, Deadline.after(5))
    assert scores.probability.shape == (3, 2)
    await eventually(subject.clean)


async def test_it_is_never_later_than_until(
    make_subject: Any, query: RankQuery, eventually: Any, behaviour: Any
) -> None:
    subject = await make_subject(behaviour)
    until = Deadline.after(0.06)
    with pytest.raises(LateError):
        await subject.scorer.score(query, until)
    # Only this machine's other work may come between the deadline and us.
    assert -5 < until.remaining_s() <= 0.001
    _let_go(behaviour)
    await eventually(subject.clean)


async def test_without_time_it_is_late_at_once(make_subject: Any, query: RankQuery, eventually: Any) -> None:
    subject = await make_subject(_hang)
    with pytest.raises(LateError):
        await asyncio.wait_for(subject.scorer.score(query, Deadline.after(-0.01)), 5)
    await eventually(subject.clean)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_errors_are_of_the_four_kinds(
    make_subject: Any, query: RankQuery, eventually: Any, *, kind: type[BackendError], pause_s: float
) -> None:
    async def fail(*_: Any) -> Scores:
        await asyncio.sleep(pause_s)
        raise kind("no")

    subject = await make_subject(fail)
    with pytest.raises(BackendError) as caught:
        await subject.scorer.score(query, Deadline.after(5))
    assert type(caught.value) is kind
    await eventually(subject.clean)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 50])
async def test_cancellation_at_any_await_releases_everything_and_is_not_waited_for(
    make_subject: Any, query: RankQuery, eventually: Any, *, behaviour: Any, steps: int
) -> None:
    subject = await make_subject(behaviour)
    task = asyncio.create_task(subject.scorer.score(query, Deadline.after(5)))
    for _ in range(steps):
        await asyncio.sleep(0.001 if steps == 50 else 0)
    task.cancel()
    await asyncio.wait((task,), timeout=10)
    assert task.cancelled()
    del task
    _let_go(behaviour)
    await eventually(subject.clean)
