"""Simulated backends under a steady stream: what a hang, a slow phase and an overload do to trust and to answers."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from bench.simulation.backend import Health, SimulatedBackend, Speed
from bench.simulation.frontend import Frontend, Terms
from bench.simulation.link import Link
from bench.simulation.network import Network, Weather
from bench.simulation.requests import CANARY, query_of
from bench.simulation.scene import vertical_of
from bench.simulation.virtual import VirtualLoop, run
from bench.simulation.watch import Watch
from serving.admission.choose import law_for
from serving.admission.gate import Gate
from serving.admission.priority import Priority
from serving.balance.tokens import HedgeTokens
from serving.budget.deadline import Deadline
from serving.catalog import Batching, Catalog
from serving.errors import BackendError
from serving.inference.breaker import Cause
from serving.inference.scorer import Scores
from serving.ladder.tier import Reason, Tier
from serving.query import RankQuery

BUDGET_S = 0.025
SPEED = Speed(base_s=0.002, per_candidate_s=1e-5, sigma=0.2, instances=2, queue=64)
"""About 3 ms for 100 candidates, 650 requests per second and backend."""
FORMS = pytest.mark.parametrize("batching", [None, Batching(2, 8)], ids=["single requests", "batches"])


class Counted(Link):
    """Notes when requests, not canaries, reach a backend."""

    def __init__(self, backend: SimulatedBackend, loop: VirtualLoop, random: Random) -> None:
        super().__init__(Network(backend, Weather(), random, loop), {"feed": 1.0}, Watch(0, loop.time))
        self._clock = loop.time
        self.reached: list[float] = []

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        if query.request_id != CANARY:
            self.reached.append(self._clock())
        return await super().score(query, until)

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
        self.reached += [self._clock()] * len(queries)
        return await super().score_together(queries, until)


@dataclass
class Stage:
    """Some backends behind a frontend, and what came of the requests."""

    loop: VirtualLoop
    backends: list[SimulatedBackend]
    counted: list[Counted]
    frontend: Frontend
    tiers: list[tuple[float, Tier]] = field(default_factory=list)
    reasons: Counter[Reason] = field(default_factory=Counter)
    late: int = 0

    async def stream(self, query: RankQuery, rate_rps: float, seconds: float, random: Random) -> None:
        """Poisson arrivals; returns when all are answered."""
        calls, until_s = [], self.loop.time() + seconds
        while self.loop.time() < until_s:
            calls.append(asyncio.create_task(self._one(query)))
            await asyncio.sleep(random.expovariate(rate_rps))
        await asyncio.gather(*calls)

    async def _one(self, query: RankQuery) -> None:
        began_s, deadline = self.loop.time(), Deadline.after(BUDGET_S, self.loop.time)
        answer = await self.frontend.rank(query, deadline.less(0.002), deadline)
        self.tiers.append((began_s, answer.tier))
        self.reasons[answer.reason] += 1
        self.late += self.loop.time() > deadline.at_s

    def share(self, tier: Tier, since_s: float, until_s: float = float("inf")) -> float:
        """Of the answers to requests that came in that time."""
        counts = Counter(each for at_s, each in self.tiers if since_s <= at_s < until_s)
        return counts[tier] / counts.total()

    def silences(self) -> int:
        """How often the first backend was ejected for its silence."""
        return self.frontend.sites[0].guards["feed"].breaker.ejections[Cause.SILENT]


def _stage(loop: VirtualLoop, number: int, random: Random, batching: Batching | None) -> Stage:
    catalog = Catalog({"feed": replace(vertical_of("feed", BUDGET_S), batching=batching)})
    backends = [SimulatedBackend(SPEED, random, loop) for _ in range(number)]
    counted = [Counted(backend, loop, random) for backend in backends]
    gates = {
        str(at): Gate(law_for("gradient", BUDGET_S, SPEED.instances), parallelism=SPEED.instances, clock=loop.time)
        for at in range(number)
    }
    scorers, terms = {str(at): link for at, link in enumerate(counted)}, Terms(tiers={"feed": (Tier.FULL, Tier.PRIOR)})
    return Stage(loop, backends, counted, Frontend(catalog, scorers, gates, loop.time, terms, tokens=HedgeTokens()))


def _play(
    number: int,
    seed: int,
    rate_rps: float,
    faults: list[tuple[float, Health]],
    *,
    batching: Batching | None,
    seconds: float = 2.0,
) -> Stage:
    """Faults are the first backend's, seconds after all are trusted, which the stage takes as zero."""
    loop, random = VirtualLoop(), Random(seed)

    async def play() -> Stage:
        stage = _stage(loop, number, random, batching)
        stage.frontend.start()
        while not stage.frontend.trusted:  # noqa: ASYNC110 virtual time
            await asyncio.sleep(0.001)
        await asyncio.sleep(1.0 - loop.time())
        for at_s, health in faults:
            loop.call_at(1.0 + at_s, stage.backends[0].become, health)
        query = query_of(1, vertical_of("feed", BUDGET_S), 100, Priority.LIVE)
        await stage.stream(query, rate_rps, seconds, random)
        await asyncio.sleep(1.0)
        stage.frontend.stop()
        return stage

    return run(play(), loop)


@FORMS
@pytest.mark.parametrize("seed", range(5))
def test_a_hung_backend_costs_the_calls_in_its_hands_and_a_few_more(seed: int, batching: Batching | None) -> None:
    stage = _play(2, seed, 400, [(0.5, Health.HUNG), (1.5, Health.WELL)], batching=batching)
    reached = [at_s for at_s in stage.counted[0].reached if at_s > 1.5]
    hung = [at_s for at_s in reached if at_s < 2.5]
    assert stage.late == 0
    assert stage.silences() == 1
    # Ejected within four budgets; then nobody asks it, and everybody is served in full by the other one.
    assert not hung or max(hung) < 1.5 + 4 * BUDGET_S
    assert len(hung) <= 20
    assert stage.share(Tier.FULL, 1.6, 2.5) > 0.97
    # Some hedges found an answer for calls that would have been lost.
    assert stage.frontend.tokens.won > 0
    assert stage.frontend.trusted


@FORMS
@pytest.mark.parametrize("seed", range(5))
def test_the_only_backend_hangs_and_requests_stop_asking_it(seed: int, batching: Batching | None) -> None:
    stage = _play(1, seed, 400, [(0.5, Health.HUNG), (1.0, Health.WELL)], batching=batching)
    hung = [at_s for at_s in stage.counted[0].reached if 1.5 < at_s < 2.0]
    assert stage.late == 0
    assert max(hung) < 1.5 + 4 * BUDGET_S
    assert stage.share(Tier.PRIOR, 1.6, 2.0) == 1.0
    assert stage.share(Tier.FULL, 2.2) > 0.9


@FORMS
@pytest.mark.parametrize("rate_rps", [400, 1500, 6000])
def test_load_ejects_nobody(rate_rps: float, batching: Batching | None) -> None:
    for seed in range(3):
        stage = _play(1, seed, rate_rps, [], batching=batching, seconds=1.0)
        assert stage.late == 0
        assert stage.silences() == 0


@FORMS
@pytest.mark.parametrize("rate_rps", [400, 1500, 6000])
def test_slowness_is_hardly_ever_taken_for_a_hang(rate_rps: float, batching: Batching | None) -> None:
    for seed in range(3):
        stage = _play(1, seed, rate_rps, [(0.2, Health.SLOW), (0.8, Health.WELL)], batching=batching, seconds=1.0)
        assert stage.late == 0
        assert stage.silences() <= 1
        # A canary's time, of a second.
        assert stage.reasons[Reason.BACKEND_UNAVAILABLE] < 0.06 * stage.reasons.total()


@FORMS
def test_one_of_two_that_is_slow_gets_little(batching: Batching | None) -> None:
    stage = _play(2, 1, 400, [(0.0, Health.SLOW)], batching=batching)
    slow, well = (len(each.reached) for each in stage.counted)
    assert slow < 0.25 * well
    assert stage.late == 0
    assert stage.share(Tier.FULL, 1.0) > 0.95
