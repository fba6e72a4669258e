"""One worker process: its rooms put together, from the socket to the scorers."""

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.admission.choose import DEFAULT_LAW, law_for
from serving.admission.door import Door
from serving.admission.gate import Gate
from serving.budget.estimates import Estimates
from serving.budget.lag import LoopLag
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog, Vertical
from serving.inference.canary import Canary, Sighting
from serving.inference.guard import GuardedScorer
from serving.inference.lite import LiteScorer
from serving.inference.scorer import Scorer
from serving.ladder.choice import FEWEST
from serving.ladder.ladder import Ladder, Rung
from serving.ladder.live import Edition, LivePrior
from serving.ladder.tier import DEFAULT_TIERS, Tier
from serving.ranker import Ranker
from serving.readiness import Readiness
from serving.refresh import PriorRefresh
from serving.rpc.codec import request_limit
from serving.rpc.probe import DoorProbe
from serving.rpc.server import RankingServer
from serving.rpc.servicer import RankingServicer
from serving.telemetry.hooks import Hooks
from serving.telemetry.recent import Recent

log = logging.getLogger(__name__)

DOOR_SHARE = 0.15
"""The share of the tightest budget that the way in may take before requests are refused for it."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs.

    Attributes:
        listen: host:port; port 0 takes a free one.
        reply_reserve_s: the least time kept in hand for the reply.
        canary_s: seconds between canaries while ready.
        drain_s: how long requests in flight may take to end once the worker stops.
        tiers: by vertical, which tiers answer; a vertical that is not there has `DEFAULT_TIERS`.
        fewest: the fewest candidates that tier `trimmed` scores.
        law: what moves the limit of the work in flight; a name of `LAWS`.
        share: of the backend, as one of several workers; its limit follows.
        repository: where refreshed priors are looked for; None: nowhere.
        reuse_port: whether other workers listen on the same port.
        parallelism: seconds of work that the backend does per second; 0: one per vertical, but no more than cores.
    """

    listen: str = "127.0.0.1:8500"
    reply_reserve_s: float = 0.002
    canary_s: float = 1.0
    drain_s: float = 5.0
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    fewest: int = FEWEST
    law: str = DEFAULT_LAW
    parallelism: float = 0.0
    share: float = 1.0
    repository: Path | None = None
    reuse_port: bool = False


class Worker:
    """Serves a catalog with one scorer per vertical; made on the event loop that runs it."""

    def __init__(self, catalog: Catalog, scorers: Mapping[str, Scorer], options: WorkerOptions) -> None:
        self._options = options
        self._catalog = catalog
        self.watchdog = Watchdog()
        self.guards = {name: GuardedScorer(scorers[name], Canary(catalog[name])) for name in catalog}
        self.lite_guards = {
            model.name: GuardedScorer(LiteScorer(scorers[name], model), Canary(model))
            for name, vertical in catalog.items()
            if (model := vertical.lite) and Tier.LITE in self._tiers(name)
        }
        self.estimates = {name: Estimates(profile=model.profile) for name, model in catalog.models.items()}
        self.priors = {name: LivePrior(Edition(one.prior, 0, one.written_s)) for name, one in catalog.items()}
        self.gate = _gate(catalog, options)
        self.ladders = {name: self._ladder(vertical) for name, vertical in catalog.items()}
        budget_s = min(vertical.budget_s for vertical in catalog.values())
        self.door = Door(DOOR_SHARE * budget_s)
        self._lag, self._probe = LoopLag(), DoorProbe(self.door.observe)
        self.reserve = ReplyReserve(options.reply_reserve_s)
        self.hooks, self._recent = Hooks(), Recent()
        self.hooks.add(self._recent)
        ranker = Ranker(catalog, self.ladders, self.reserve, self.door)
        servicer = RankingServicer(ranker, self.reserve, self._waited_s, self.hooks)
        self._server = RankingServer(servicer, self._probe, request_limit(catalog), options.reuse_port)
        self.readiness = Readiness(self.guards, self._server.set_ready, options.canary_s)
        # A lite model that isn't trusted costs its tier, and nobody's readiness.
        self.lite_readiness = Readiness(self.lite_guards, _tell_nobody, options.canary_s, options.canary_s)
        self._running: list[asyncio.Task[None]] = []

    def _waited_s(self, now_s: float) -> float:
        # The probe stands in line where requests do, but isn't sent while the loop stands still.
        return max(self._lag.charge_s(now_s), self._probe.charge_s(now_s))

    def _ladder(self, vertical: Vertical) -> Ladder:
        guard, estimates = self.guards[vertical.name], self.estimates[vertical.name]
        _seed_from_canaries(guard, estimates, vertical)
        tiers = self._tiers(vertical.name)
        rungs = [Rung(tier, guard, estimates) for tier in sorted(tiers) if tier in (Tier.FULL, Tier.TRIMMED)]
        if (model := vertical.lite) and model.name in self.lite_guards:
            lite = Rung(Tier.LITE, self.lite_guards[model.name], self.estimates[model.name], model)
            _seed_from_canaries(self.lite_guards[model.name], lite.estimates, model)
            rungs.append(lite)
        prior = self.priors[vertical.name]
        return Ladder(rungs, prior, self.watchdog, self.gate, fewest=self._options.fewest)

    def _tiers(self, vertical: str) -> tuple[Tier, ...]:
        return self._options.tiers.get(vertical, DEFAULT_TIERS)

    async def start(self) -> int:
        """Listen, and begin to check for readiness; returns the port. Requests before that get the prior.

        Raises:
            StartError: the address can't be listened on.
        """
        port = await self._server.start(self._options.listen)
        self._lag.start()
        works = [self.readiness.run()]
        if self.lite_guards:
            works.append(self.lite_readiness.run())
        if self._options.repository:
            works.append(PriorRefresh(self._options.repository, self._catalog, self.priors).run())
        self._running = [asyncio.create_task(work) for work in works]
        return port

    async def stop(self) -> None:
        """Take no more requests, let those in flight end, and stop."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._server.drain(self._options.drain_s)
        self._lag.stop()

    def state(self) -> dict[str, Any]:
        """What there is to know of this worker now, in JSON types; cheap enough to be asked several times a second."""
        return {
            "ready": self.readiness.ready,
            "in_flight": self.hooks.in_flight,
            "backend_calls": self.watchdog.running,
            "reply_reserve_ms": round(1e3 * self.reserve.of(float("inf")), 3),
            "share": self._options.share,
            "door": {"shed_share": round(self.door.share, 4), "wait_ms": round(1e3 * self.door.wait_s, 3)},
            "limits": {"work_s": self.gate.limit_s, "work_in_flight_s": self.gate.in_flight_s},
            "verticals": {name: self._state_of(vertical) for name, vertical in self._catalog.items()},
        }

    def _state_of(self, vertical: Vertical) -> dict[str, Any]:
        return {
            "version": vertical.version,
            "budget_ms": 1e3 * vertical.budget_s,
            "tiers": [tier.name.lower() for tier in self.ladders[vertical.name].tiers],
            "trusted": self.guards[vertical.name].trusted,
            "canary": self.readiness.last.get(vertical.name, "not yet flown"),
            "prior": self.priors[vertical.name].state(),
            **({"lite": self._state_of_lite(vertical.lite)} if vertical.lite else {}),
            **self._recent.of(vertical.name),
        }

    def _state_of_lite(self, model: Vertical) -> dict[str, Any]:
        guard = self.lite_guards.get(model.name)
        return {
            "name": model.name,
            "version": model.version,
            "trusted": guard is not None and guard.trusted,
            "canary": self.lite_readiness.last.get(model.name, "not yet flown"),
        }


def _seed_from_canaries(guard: GuardedScorer, estimates: Estimates, model: Vertical) -> None:
    def learn(sighting: Sighting, first: bool) -> None:
        learn_from = estimates.seed if first else estimates.lower
        learn_from(len(model.golden.probability), sighting.spent_s)

    guard.on_pass = learn


async def _tell_nobody(_: bool) -> None:
    pass


def _gate(catalog: Catalog, options: WorkerOptions) -> Gate:
    """The gate of the one backend that all verticals share; its limit is made for the tightest budget."""
    parallelism = options.share * (options.parallelism or min(len(catalog), len(os.sched_getaffinity(0))))
    budget_s = min(vertical.budget_s for vertical in catalog.values())
    return Gate(law_for(options.law, budget_s, parallelism), parallelism=parallelism)
