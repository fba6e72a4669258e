"""One worker process: its rooms put together, from the socket to the scorers."""

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.admission.choose import DEFAULT_LAW, law_for, parallelism_for
from serving.admission.door import Door
from serving.admission.gate import Gate
from serving.balance.tokens import HedgeTokens
from serving.budget.lag import LoopLag
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog, Vertical
from serving.features.histories import Histories
from serving.features.lookup import HistoryLookup
from serving.features.store import opener
from serving.inference.lite import lite_scorer
from serving.inference.scorer import Scorer
from serving.inference.site import Site, Vet, no_vet
from serving.ladder.choice import FEWEST
from serving.ladder.hedge import Hedging
from serving.ladder.ladder import Ladder
from serving.ladder.lane import Lane, Rung
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

if TYPE_CHECKING:
    from serving.impressions.keeper import Keeper

log = logging.getLogger(__name__)

DOOR_SHARE = 0.25
"""The share of the tightest budget that the way in may take before requests are refused for it."""
FLUSH_S = 1.5
"""How long the log may take to write what waits once the last request has been answered."""


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
        share: of each backend, as one of several servers or workers; limits and outstanding calls follow.
        repository: where refreshed priors are looked for; None: nowhere.
        reuse_port: whether other workers listen on the same port.
        log: URL of the event log; empty: impressions are not logged and outcomes not taken.
        shown: how many of the best ads of an answer are shown; each is an impression.
        histories: URL of the online store; empty: students that read histories get empty ones.
        parallelism: seconds of work that a backend does per second; 0: one per vertical, or one fewer
            than the calls that a model may have outstanding, whichever is more, but no more than cores.
    """

    listen: str = "127.0.0.1:8500"
    reply_reserve_s: float = 0.004
    canary_s: float = 1.0
    drain_s: float = 5.0
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    fewest: int = FEWEST
    law: str = DEFAULT_LAW
    parallelism: float = 0.0
    share: float = 1.0
    repository: Path | None = None
    reuse_port: bool = False
    log: str = ""
    shown: int = 1
    histories: str = ""


class Worker:
    """Serves a catalog with a scorer per vertical on each of its backends; made on the event loop that runs it."""

    def __init__(
        self,
        catalog: Catalog,
        scorers: Mapping[str, Mapping[str, Scorer]],
        options: WorkerOptions,
        vet: Vet = no_vet,
    ) -> None:
        """Scorers: by backend, then by vertical."""
        self._options = options
        self._catalog = catalog
        self.watchdog = Watchdog()
        self._lites = {
            name: model
            for name, vertical in catalog.items()
            if (model := vertical.lite) and Tier.LITE in self._tiers(name)
        }
        self.sites = [self._site(name, own, vet) for name, own in scorers.items()]
        self.guards = {name: tuple(site.guards[name] for site in self.sites) for name in catalog}
        lites = [model.name for model in self._lites.values()]
        self.lite_guards = {name: tuple(site.guards[name] for site in self.sites) for name in lites}
        self.priors = {name: LivePrior(Edition(one.prior, 0, one.written_s)) for name, one in catalog.items()}
        self.tokens = HedgeTokens()
        self._hedging = Hedging(self.watchdog, self.tokens if len(self.sites) > 1 else None)
        self.ladders = {name: self._ladder(vertical) for name, vertical in catalog.items()}
        budget_s = min(vertical.budget_s for vertical in catalog.values())
        way_s = DOOR_SHARE * budget_s
        self.door = Door(way_s)
        self._lag, self._probe = LoopLag(), DoorProbe(self.door.observe, short_s=way_s / 2)
        self.reserve = ReplyReserve(options.reply_reserve_s)
        self.hooks, self._recent = Hooks(), Recent()
        self.hooks.add(self._recent)
        self.histories = _histories(catalog, options.histories)
        self.keeper = _keeper(catalog, options)
        ranker = Ranker(catalog, self.ladders, self.reserve, self.door, histories=self.histories, keeper=self.keeper)
        servicer = RankingServicer(ranker, self.reserve, self._waited_s, self.hooks, keeper=self.keeper)
        self._server = RankingServer(servicer, self._probe, request_limit(catalog), options.reuse_port)
        self.readiness = Readiness(self.guards, self._server.set_ready, options.canary_s)
        # A lite model that isn't trusted costs its tier, and nobody's readiness.
        self.lite_readiness = Readiness(self.lite_guards, _tell_nobody, options.canary_s, options.canary_s)
        self._running: list[asyncio.Task[None]] = []

    def _waited_s(self, now_s: float) -> float:
        # The probe stands in line where requests do, but isn't sent while the loop stands still.
        return max(self._lag.charge_s(now_s), self._probe.charge_s(now_s))

    def _ladder(self, vertical: Vertical) -> Ladder:
        lanes = [self._lane(site, vertical.name) for site in self.sites]
        return Ladder(lanes, self.priors[vertical.name], self._hedging, fewest=self._options.fewest)

    def _site(self, backend: str, scorers: Mapping[str, Scorer], vet: Vet) -> Site:
        lites = {model.name: model for model in self._lites.values()}
        models = {**self._catalog, **lites}
        own = {model.name: lite_scorer(scorers[name], model) for name, model in self._lites.items()}
        gate = _gate(self._catalog, self._options)
        return Site(backend, models, {**scorers, **own}, gate, vet=vet, share=self._options.share)

    def _lane(self, site: Site, name: str) -> Lane:
        offered = [tier for tier in sorted(self._tiers(name)) if tier in (Tier.FULL, Tier.TRIMMED)]
        rungs = [_rung(tier, site, name) for tier in offered]
        if model := self._lites.get(name):
            rungs.append(_rung(Tier.LITE, site, model.name, model))
        return Lane(site.backend, tuple(rungs), site.gate)

    def _tiers(self, vertical: str) -> tuple[Tier, ...]:
        return self._options.tiers.get(vertical, DEFAULT_TIERS)

    async def start(self) -> int:
        """Listen, and begin to check for readiness; returns the port. Requests before that get the prior.

        Raises:
            StartError: the address can't be listened on.
        """
        port = await self._server.start(self._options.listen)
        self.histories.start()
        if self.keeper:
            self.keeper.start()
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
        self.histories.close()
        if self.keeper:
            await asyncio.to_thread(self.keeper.close, FLUSH_S)
        self._lag.stop()

    def state(self) -> dict[str, Any]:
        """What there is to know of this worker now, in JSON types; cheap enough to be asked several times a second."""
        return {
            "ready": self.readiness.ready,
            "in_flight": self.hooks.in_flight,
            "backend_calls": sum(site.gate.calls for site in self.sites),
            "reply_reserve_ms": round(1e3 * self.reserve.of(float("inf")), 3),
            "share": self._options.share,
            "door": {"shed_share": round(self.door.share, 4), "wait_s": round(self.door.wait_s, 6)},
            "limits": {
                "work_s": sum(site.gate.limit_s for site in self.sites),
                "work_in_flight_s": sum(site.gate.in_flight_s for site in self.sites),
            },
            "backends": {site.backend: site.state() for site in self.sites},
            "hedges": {"begun": self.tokens.taken, "won": self.tokens.won, "tokens": round(self.tokens.left, 2)},
            "log": self.keeper.state() if self.keeper else None,
            "histories": self.histories.state(),
            "verticals": {name: self._state_of(vertical) for name, vertical in self._catalog.items()},
        }

    def _state_of(self, vertical: Vertical) -> dict[str, Any]:
        return {
            "version": vertical.version,
            "budget_ms": 1e3 * vertical.budget_s,
            "tiers": [tier.name.lower() for tier in self.ladders[vertical.name].tiers],
            "trusted": any(guard.trusted for guard in self.guards[vertical.name]),
            "canary": self.readiness.last[vertical.name],
            "prior": self.priors[vertical.name].state(),
            **({"lite": self._state_of_lite(vertical.lite)} if vertical.lite else {}),
            **self._recent.of(vertical.name),
        }

    def _state_of_lite(self, model: Vertical) -> dict[str, Any]:
        guards = self.lite_guards.get(model.name, ())
        return {
            "name": model.name,
            "version": model.version,
            "trusted": any(guard.trusted for guard in guards),
            "canary": self.lite_readiness.last.get(model.name, "not yet flown"),
        }


def _rung(tier: Tier, site: Site, name: str, model: Vertical | None = None) -> Rung:
    guard = site.guards[name]
    return Rung(tier, guard, site.estimates[name], lambda: guard.trusted, model, site.batchers.get(name))


def _histories(catalog: Catalog, url: str) -> Histories:
    if url:
        return Histories(HistoryLookup(opener(url)))
    for name, vertical in catalog.items():
        if Histories.wanted(vertical):
            log.warning("%s: its student reads histories and gets none: no store is named", name)
    return Histories()


def _keeper(catalog: Catalog, options: WorkerOptions) -> "Keeper | None":
    if not options.log:
        return None
    # Only here, so that a server without a log needs none of what logs are made of.
    from exfm.events.backends import open_log  # noqa: PLC0415
    from serving.impressions.keeper import Keeper  # noqa: PLC0415
    from serving.impressions.log import ServingLog  # noqa: PLC0415

    return Keeper(catalog, ServingLog(lambda: open_log(options.log)), options.shown)


async def _tell_nobody(_: bool) -> None:
    pass


def _gate(catalog: Catalog, options: WorkerOptions) -> Gate:
    """The gate of a backend, which all verticals share; its limit is made for the tightest budget."""
    parallelism = options.share * (options.parallelism or _parallelism(catalog))
    budget_s = min(vertical.budget_s for vertical in catalog.values())
    return Gate(law_for(options.law, budget_s, parallelism), parallelism=parallelism)


def _parallelism(catalog: Catalog) -> int:
    calls = max((vertical.batching.calls for vertical in catalog.values() if vertical.batching), default=1)
    return parallelism_for(len(catalog), calls, len(os.sched_getaffinity(0)))
