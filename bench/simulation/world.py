"""One seeded world: the real gate, law, estimates, ladder and watchdog against a simulated backend, on virtual time.

Every step is held to the invariants that the server promises:

- each request is answered exactly once: with a ranking, a shed, or its caller's own cancellation;
- no answer comes later than its deadline and a millisecond;
- what is in flight stays within the gate's limit when a request is let in, unless it is alone;
- the gate's counters add up, and when all is over nothing is in flight and no work is left running.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from bench.simulation.backend import Health, SimulatedBackend, Speed
from bench.simulation.virtual import VirtualLoop, run
from exfm.features.schema import Feature, Schema
from exfm.features.schema import Vertical as Task
from serving.admission.choose import LAWS, law_for
from serving.admission.gate import Gate
from serving.admission.permit import Outcome, Permit
from serving.admission.priority import Priority
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.budget.watchdog import Watchdog
from serving.catalog import Golden, Vertical
from serving.errors import OverloadedError
from serving.ladder.ladder import Ladder, Rung
from serving.ladder.prior import Prior
from serving.ladder.tier import Tier
from serving.query import RankQuery

EPSILON_S = 0.001
SETTLE_S = 30.0
RESERVE_S = 0.002
SIZES = (20, 100, 200, 500, 2000)
DRIFT = 1e-9


class ViolationError(AssertionError):
    """An invariant doesn't hold; the message says which, when, and in which seed."""


@dataclass(frozen=True)
class Plan:
    """What happens in a world, all of it drawn from its seed.

    Attributes:
        speed: of the backend.
        law: name of the admission law.
        seconds: how long requests arrive.
        load: offered candidate cost over what the backend can do, outside bursts.
        faults: when the backend becomes what.
    """

    speed: Speed
    law: str
    seconds: float
    load: float
    faults: list[tuple[float, Health]]

    @classmethod
    def draw(cls, random: Random) -> "Plan":
        """Draw one."""
        speed = Speed(
            base_s=random.uniform(2e-4, 3e-3),
            per_candidate_s=random.uniform(1e-6, 2e-5),
            sigma=random.uniform(0.05, 0.6),
            instances=random.randint(1, 3),
            queue=random.choice((4, 32, 128)),
        )
        seconds = random.uniform(0.05, 0.25)
        faults, at_s = [], random.uniform(0.0, seconds)
        while at_s < seconds:
            faults += [(at_s, random.choice((Health.SLOW, Health.HUNG, Health.DEAD)))]
            at_s += random.uniform(0.01, 0.15)
            faults += [(at_s, Health.WELL)]
            at_s += random.uniform(0.03, 0.2)
        return cls(speed, random.choice(LAWS), seconds, random.choice((0.3, 0.9, 2.0, 5.0, 10.0)), faults)


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
    """A ladder with its gate, a backend, callers, and the eyes on them."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed = seed
        self.tally = Tally()
        self._random = Random(seed)
        self._clock: Callable[[], float] = loop.time
        self._plan = plan = Plan.draw(self._random)
        self._backend = SimulatedBackend(plan.speed, self._random)
        self._budget_s = self._random.choice((0.015, 0.025, 0.060))
        law = law_for(plan.law, self._budget_s, plan.speed.instances)
        self._gate = _WatchedGate(law, parallelism=plan.speed.instances, clock=self._clock)
        self._watchdog = Watchdog()
        self._vertical = _vertical(self._budget_s)
        estimates = Estimates(clock=self._clock)
        rungs = [Rung(tier, self._backend, estimates) for tier in (Tier.FULL, Tier.TRIMMED)]
        prior = self._vertical.prior
        self._ladder = Ladder(rungs, prior, self._watchdog, self._gate, clock=self._clock)

    async def play(self) -> Tally:
        """Let requests arrive and faults happen, wait for the end, and check what must hold then."""
        loop, plan = asyncio.get_running_loop(), self._plan
        for at_s, health in plan.faults:
            loop.call_at(at_s, self._backend.become, health)
        callers = []
        while self._clock() < plan.seconds:
            callers.append(asyncio.create_task(self._call(self._random.choice(SIZES))))
            self._check_counters()
            await asyncio.sleep(self._gap_s())
        self._backend.become(Health.WELL)
        await asyncio.gather(*callers)
        await asyncio.sleep(SETTLE_S)
        self._check_end()
        return self.tally

    def _gap_s(self) -> float:
        speed = self._plan.speed
        mean_s = speed.base_s + sum(SIZES) / len(SIZES) * speed.per_candidate_s
        burst = 4.0 if self._random.random() < 0.05 else 1.0
        return self._random.expovariate(self._plan.load * burst * speed.instances / mean_s)

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
        counts = self._gate.counts()
        for priority in Priority:
            ended = sum(counts[priority, end] for end in (Outcome.SUCCEEDED, Outcome.IGNORED, Outcome.DROPPED))
            inside = counts[priority, Outcome.ENTERED] - ended
            self._hold(inside == self._gate.in_flight(priority) >= 0, f"{priority.name}: the counters don't add up")
        self._hold(not self._gate.overruns, f"{self._gate.overruns} let in beyond the limit")
        self._hold(self._backend.busy <= self._plan.speed.instances, "the backend serves more than it can")

    def _check_end(self) -> None:
        self._check_counters()
        counts = self._gate.counts()
        leaked = sum(count for (_, outcome), count in counts.items() if outcome is Outcome.LEAKED)
        self._hold(leaked == 0, f"{leaked} permits leaked")
        self._hold(abs(self._gate.in_flight_s) < DRIFT, f"{self._gate.in_flight_s} s in flight when all is over")
        self._hold(self._watchdog.running == 0, f"{self._watchdog.running} pieces of work still run")
        answered = sum(self.tally.ends.values())
        self._hold(answered == self.tally.offered, f"{self.tally.offered} offered, {answered} answered")

    def _hold(self, holds: bool, what: str) -> None:
        if not holds:
            raise ViolationError(f"seed {self.seed} at {self._clock():.6f} s: {what}")


def _vertical(budget_s: float) -> Vertical:
    schema = Schema("s", (Feature("ad", "ad", "id", buckets=2),), (Task("feed", ("click",)),))
    prior = Prior(np.arange(1), np.full((1, 1), 0.1, np.float32), np.full(1, 0.1, np.float32))
    return Vertical("feed", 1, schema, budget_s, max(SIZES), prior, Golden({}, np.empty((0, 1), np.float32), 0.0))
