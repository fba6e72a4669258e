"""One worker process of the server: its rooms put together as `serving.worker.Worker` does, on a clock of our own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.simulation.link import Link
from serving.admission.door import Door
from serving.admission.gate import Gate
from serving.balance.tokens import HedgeTokens
from serving.budget.clock import Clock
from serving.budget.deadline import Arrival, Deadline
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog, Vertical
from serving.inference.lite import lite_scorer
from serving.inference.scorer import Scorer
from serving.inference.site import Site
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Answer, Ladder
from serving.ladder.lane import Lane, Rung
from serving.ladder.live import Edition, LivePrior
from serving.ladder.tier import DEFAULT_TIERS, Tier
from serving.query import RankQuery
from serving.readiness import Readiness
from serving.worker import DOOR_SHARE

LITE_S = 1.0
"""Between two canaries of a lite model, whether it is trusted or not."""


@dataclass(frozen=True)
class Terms:
    """How a frontend serves; see `serving.worker.WorkerOptions`."""

    share: float = 1.0
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)

    def of(self, vertical: str) -> tuple[Tier, ...]:
        """Which tiers answer for it."""
        return self.tiers.get(vertical, DEFAULT_TIERS)


class Frontend:
    """From the door to the answer: what the ranker does but for the bytes."""

    def __init__(
        self,
        catalog: Catalog,
        scorers: Mapping[str, Link],
        gates: Mapping[str, Gate],
        clock: Clock,
        terms: Terms,
        *,
        tokens: HedgeTokens,
    ) -> None:
        """Scorers and gates: by backend."""
        self._catalog, self._clock, self._terms = catalog, clock, terms
        self._lites = {
            name: model
            for name, vertical in catalog.items()
            if (model := vertical.lite) and Tier.LITE in terms.of(name)
        }
        self.watchdog, self.tokens = Watchdog(), tokens
        self._hedging = Hedging(self.watchdog, tokens if len(scorers) > 1 else None, clock)
        self.sites = [self._site(name, scorer, gates[name]) for name, scorer in scorers.items()]
        self.priors = {name: LivePrior(Edition(vertical.prior)) for name, vertical in catalog.items()}
        self._ladders = {name: self._ladder(vertical) for name, vertical in catalog.items()}
        self.door = Door(DOOR_SHARE * min(vertical.budget_s for vertical in catalog.values()))
        self.reserve = ReplyReserve(clock=clock)
        self.readiness = Readiness({name: [site.guards[name] for site in self.sites] for name in catalog}, _tell)
        lites = {model.name: [site.guards[model.name] for site in self.sites] for model in self._lites.values()}
        self._lite_readiness = Readiness(lites, _tell, LITE_S, LITE_S)
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send canaries."""
        works = [self.readiness.run(), self._lite_readiness.run()]
        self._running = [asyncio.create_task(work) for work in works]

    def stop(self) -> None:
        """End that."""
        for task in self._running:
            task.cancel()

    async def rank(self, query: RankQuery, until: Deadline, last: Deadline) -> Answer:
        """See `Ladder.answer`."""
        return await self._ladders[query.vertical.name].answer(query, until, last)

    def deadlines(self, arrival: Arrival, vertical: Vertical) -> tuple[Deadline, Deadline]:
        """By when the scores must be there, and by when the prior's answer, as the ranker has them."""
        deadline = Deadline.at_door(arrival, vertical.budget_s, self._clock)
        reserve_s = self.reserve.of(deadline.budget_s)
        return deadline.less(reserve_s), deadline.less(reserve_s / 2)

    def tiers(self, vertical: Vertical) -> tuple[Tier, ...]:
        """Which can answer for it."""
        return self._ladders[vertical.name].tiers

    @property
    def trusted(self) -> bool:
        """Whether every model is trusted at every backend."""
        return all(guard.trusted for site in self.sites for guard in site.guards.values())

    def _site(self, backend: str, scorer: Link, gate: Gate) -> Site:
        lites = {model.name: model for model in self._lites.values()}
        own = {name: lite_scorer(scorer, model) for name, model in lites.items()}
        scorers: dict[str, Scorer] = {**dict.fromkeys(self._catalog, scorer), **own}
        models, share = {**self._catalog, **lites}, self._terms.share
        return Site(backend, models, scorers, gate, vet=scorer.vet, share=share, clock=self._clock)

    def _ladder(self, vertical: Vertical) -> Ladder:
        lanes = [self._lane(site, vertical.name) for site in self.sites]
        return Ladder(lanes, self.priors[vertical.name], self._hedging, clock=self._clock)

    def _lane(self, site: Site, name: str) -> Lane:
        offered = [tier for tier in sorted(self._terms.of(name)) if tier in (Tier.FULL, Tier.TRIMMED)]
        rungs = [_rung(tier, site, name) for tier in offered]
        if model := self._lites.get(name):
            rungs.append(_rung(Tier.LITE, site, model.name, model))
        return Lane(site.backend, tuple(rungs), site.gate)


def _rung(tier: Tier, site: Site, name: str, model: Vertical | None = None) -> Rung:
    guard = site.guards[name]
    return Rung(tier, guard, site.estimates[name], lambda: guard.trusted, model, site.batchers.get(name))


async def _tell(_: bool) -> None:
    pass
