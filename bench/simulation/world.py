"""One seeded world: the real gates, laws, estimates, batchers, breakers, ladder and watchdog on simulated backends.

Time is virtual, and every step is held to the invariants that the server promises:

- each request is answered exactly once: with a ranking, a shed, or its caller's own cancellation;
- no answer comes later than its deadline and a millisecond;
- what is in flight stays within a gate's limit when a request is let in, unless it is alone;
- the gates' counters add up, hedges stay within their tokens, and when all is over nothing is in flight and no work is
  left running;
- a backend that is well again is trusted again;
- batches are within their bounds and begun in time, shadow requests never in others' company, no more calls outstanding
  than may be, nobody left waiting past the hope to be in time or at a backend that is not trusted.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from bench.simulation.backend import BatchedBackend, Health, SimulatedBackend
from bench.simulation.plan import SIZES, Life, Plan
from bench.simulation.virtual import VirtualLoop, run
from exfm.features.schema import Feature, Schema
from exfm.features.schema import Vertical as Task
from serving.admission.choose import law_for
from serving.admission.gate import Gate
from serving.admission.permit import Outcome, Permit
from serving.admission.priority import Priority
from serving.balance.tokens import HedgeTokens
from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog, Golden, Vertical
from serving.errors import OverloadedError
from serving.inference.site import Site
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Ladder
from serving.ladder.lane import Lane, Rung
from serving.ladder.prior import Prior
from serving.ladder.tier import Tier
from serving.query import RankQuery
from serving.readiness import Readiness

EPSILON_S = 0.001
SETTLE_S = 30.0
TRUSTED_S = 1.0
TRUSTED_AFTER_SLOW_S = 10.0
RESERVE_S = 0.002
DRIFT = 1e-9
FEED = "feed"


class ViolationError(AssertionError):
    """An invariant doesn't hold; the message says which, when, and in which seed."""


@dataclass
class Tally:
    """What became of the requests of one world."""

    offered: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def simulate(seed: int) -> Tally:
    """Run the world of that seed to its end; the same seed does the same, step by step.

    Raises:
        ViolationError: an invariant was broken.
    """
    loop = VirtualLoop()
    world = World(seed, loop)
    return run(world.play(), loop)


class _WatchedGate(Gate):
    """Counts the requests that were let in beyond the limit although others were in flight."""

    overruns = 0

    def try_enter(self, cost_s: float, priority: Priority = Priority.LIVE) -> Permit | None:
        before_s = self.in_flight_s
        permit = super().try_enter(cost_s, priority)
        if permit is not None and before_s > DRIFT and self.in_flight_s > self.limit_s + DRIFT:
            self.overruns += 1
        return permit


class World:
    """A ladder with its backends, callers, and the eyes on them."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed = seed
        self.tally = Tally()
        self._random = Random(seed)
        self._clock: Callable[[], float] = loop.time
        self._plan = plan = Plan.draw(self._random)
        self._budget_s = self._random.choice((0.015, 0.025, 0.060))
        self._vertical = replace(_vertical(self._budget_s), batching=plan.batching)
        self._backends = [self._backend(life) for life in plan.lives]
        self._gates = [self._gate(life) for life in plan.lives]
        self._sites = [self._site(number) for number in range(len(plan.lives))]
        self._watchdog = Watchdog()
        self.tokens = HedgeTokens()
        hedging = Hedging(self._watchdog, self.tokens if len(self._sites) > 1 else None, self._clock)
        lanes = [_lane(site) for site in self._sites]
        self._ladder = Ladder(lanes, self._vertical.prior, hedging, clock=self._clock)
        self._readiness = Readiness({FEED: [site.guards[FEED] for site in self._sites]}, _tell)

    def _backend(self, life: Life) -> SimulatedBackend:
        batching = self._plan.batching
        if batching is None:
            return SimulatedBackend(life.speed, self._random)
        return BatchedBackend(life.speed, self._random, batching.most)

    def _gate(self, life: Life) -> "_WatchedGate":
        instances = life.speed.instances
        law = law_for(self._plan.law, self._budget_s, instances)
        return _WatchedGate(law, parallelism=instances, clock=self._clock)

    def _site(self, number: int) -> Site:
        scorers, catalog = {FEED: self._backends[number]}, Catalog({FEED: self._vertical})
        return Site(str(number), catalog, scorers, self._gates[number], clock=self._clock)

    async def play(self) -> Tally:
        """Let requests arrive and faults happen, wait for the end, and check what must hold then."""
        canaries = asyncio.create_task(self._readiness.run())
        await self._readiness.wait()
        loop, began_s = asyncio.get_running_loop(), self._clock()
        for life, backend in zip(self._plan.lives, self._backends, strict=True):
            for at_s, health in life.faults:
                loop.call_at(began_s + at_s, backend.become, health)
        callers = []
        while self._clock() < began_s + self._plan.seconds:
            callers.append(asyncio.create_task(self._call(self._random.choice(SIZES))))
            self._check_counters()
            self._check_batches()
            await asyncio.sleep(self._plan.gap_s(self._random))
        for backend in self._backends:
            backend.become(Health.WELL)
        await self._check_trust()
        await asyncio.gather(*callers)
        canaries.cancel()
        await asyncio.sleep(SETTLE_S)
        self._check_end()
        return self.tally

    async def _call(self, candidates: int) -> None:
        """One caller: some have less time than the budget or none any more, some give up on the way."""
        self.tally.offered += 1
        share = self._random.choice((1.0, 1.0, 1.0, 1.0, 0.5, 0.05, -0.1))
        deadline = Deadline.after(self._budget_s * share, self._clock)
        answering = asyncio.create_task(self._answer(candidates, deadline))
        if self._random.random() < 0.05:
            asyncio.get_running_loop().call_later(self._budget_s * self._random.random(), answering.cancel)
        await asyncio.wait((answering,))
        end = "cancelled" if answering.cancelled() else answering.result()
        self.tally.ends[end] += 1

    async def _answer(self, candidates: int, deadline: Deadline) -> str:
        query = RankQuery("", self._vertical, {}, np.arange(candidates), np.ones(candidates), self._draw_priority())
        reserve_s = min(RESERVE_S, deadline.budget_s / 2)
        began_s = self._clock()
        try:
            answer = await self._ladder.answer(query, deadline.less(reserve_s), deadline)
        except OverloadedError:
            self._hold(self._clock() <= max(deadline.at_s, began_s) + EPSILON_S, "a shed came late")
            return "shed"
        late_s = self._clock() - deadline.at_s
        self._hold(late_s <= EPSILON_S, f"an answer of tier {answer.tier.name} came {late_s:.6f} s late")
        self._hold(len(answer.probability) == candidates, "an answer lacks candidates")
        self._hold(bool(np.isfinite(answer.probability).all()), "an answer holds what is no number")
        return answer.tier.name.lower()

    def _draw_priority(self) -> Priority:
        return self._random.choice((Priority.LIVE, Priority.LIVE, Priority.NORMAL, Priority.SHADOW))

    def _check_counters(self) -> None:
        for gate, backend, life in zip(self._gates, self._backends, self._plan.lives, strict=True):
            counts, calls = gate.counts(), 0
            for priority in Priority:
                ended = sum(counts[priority, end] for end in (Outcome.SUCCEEDED, Outcome.IGNORED, Outcome.DROPPED))
                inside = counts[priority, Outcome.ENTERED] - ended
                self._hold(inside == gate.in_flight(priority) >= 0, f"{priority.name}: the counters don't add up")
                calls += inside
            self._hold(calls == gate.calls, "the gate miscounts its open permits")
            self._hold(not gate.overruns, f"{gate.overruns} let in beyond the limit")
            self._hold(backend.busy <= life.speed.instances, "a backend serves more than it can")
        self._hold(self.tokens.left >= 0, "hedges beyond their tokens")

    def _check_batches(self) -> None:
        for site, backend in zip(self._sites, self._backends, strict=True):
            if not isinstance(backend, BatchedBackend):
                continue
            assert self._plan.batching
            batcher, calls = site.batchers[FEED], self._plan.batching.calls
            calls += calls > 1  # one short call may go beside the others
            self._hold(not backend.faults, "; ".join(backend.faults))
            self._hold(backend.peak <= calls, f"{backend.peak} calls outstanding, {calls} may be")
            self._hold(batcher.waiting == 0 or site.guards[FEED].trusted, "requests wait for an ejected backend")
            overdue_s = batcher.overdue_s
            self._hold(overdue_s <= EPSILON_S, f"a request waits {overdue_s:.6f} s past hope")

    async def _check_trust(self) -> None:
        slow = any(life.was_slow for life in self._plan.lives)
        within_s, guards = TRUSTED_AFTER_SLOW_S if slow else TRUSTED_S, [site.guards[FEED] for site in self._sites]
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not all(guard.trusted for guard in guards):  # noqa: ASYNC110 virtual time costs nothing
                    await asyncio.sleep(0.01)
        self._hold(all(guard.trusted for guard in guards), f"a backend is well and not trusted for {within_s} s")

    def _check_end(self) -> None:
        self._check_counters()
        self._check_batches()
        for batcher in (site.batchers[FEED] for site in self._sites if site.batchers):
            self._hold(batcher.waiting == batcher.outstanding == 0, "a batcher holds requests when all is over")
        for gate in self._gates:
            leaked = sum(count for (_, outcome), count in gate.counts().items() if outcome is Outcome.LEAKED)
            self._hold(leaked == 0, f"{leaked} permits leaked")
            self._hold(abs(gate.in_flight_s) < DRIFT, f"{gate.in_flight_s} s in flight when all is over")
        self._hold(self._watchdog.running == 0, f"{self._watchdog.running} pieces of work still run")
        answered = sum(self.tally.ends.values())
        self._hold(answered == self.tally.offered, f"{self.tally.offered} offered, {answered} answered")

    def _hold(self, holds: bool, what: str) -> None:
        if not holds:
            raise ViolationError(f"seed {self.seed} at {self._clock():.6f} s: {what}")


def _lane(site: Site) -> Lane:
    guard, estimates = site.guards[FEED], site.estimates[FEED]
    queue = site.batchers.get(FEED)
    rungs = [Rung(tier, guard, estimates, lambda: guard.trusted, queue=queue) for tier in (Tier.FULL, Tier.TRIMMED)]
    return Lane(site.backend, tuple(rungs), site.gate)


async def _tell(_: bool) -> None:
    pass


def _vertical(budget_s: float) -> Vertical:
    schema = Schema("s", (Feature("ad", "ad", "id", buckets=2),), (Task(FEED, ("click",)),))
    prior = Prior(np.arange(1), np.full((1, 1), 0.1, np.float32), np.full(1, 0.1, np.float32))
    golden = Golden({}, np.full((64, 1), 0.5, np.float32), 1e-4)
    return Vertical(FEED, 1, schema, budget_s, max(SIZES), prior, golden)
