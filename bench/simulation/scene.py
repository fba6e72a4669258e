"""What a plan is played with: backends, networks, frontends, and the parts to be watched."""

import math
from dataclasses import replace
from random import Random

import numpy as np

from bench.simulation.backend import SimulatedBackend
from bench.simulation.frontend import Frontend, Terms
from bench.simulation.link import Link
from bench.simulation.network import Network, Weather
from bench.simulation.parts import WatchedGate, WatchedQueue, WatchedTokens, WatchedWork
from bench.simulation.plan import Offer, Plan
from bench.simulation.requests import CANARY_SCORE, LITE, SIZES, prior_of
from bench.simulation.virtual import VirtualLoop
from bench.simulation.watch import Watch
from exfm.features.schema import Feature, Schema
from exfm.features.schema import Vertical as Task
from serving.admission.choose import law_for
from serving.catalog import Catalog, Golden, Vertical
from serving.inference.company import LINGER
from serving.inference.site import Site

Part = WatchedGate | WatchedQueue | WatchedTokens | WatchedWork


def vertical_of(name: str, budget_s: float) -> Vertical:
    """A vertical without batching and without a lite model."""
    schema = Schema("s", (Feature("ad", "ad", "id", buckets=2),), (Task(name, ("click",)),))
    golden = Golden({}, np.full((64, 1), CANARY_SCORE, np.float32), 1e-4)
    return Vertical(name, 1, schema, budget_s, max(SIZES), prior_of(name, 0), golden)


def _offered(name: str, offer: Offer) -> Vertical:
    full = replace(vertical_of(name, offer.budget_s), batching=offer.batching, profile=dict(offer.profile))
    return replace(full, lite=replace(full, name=f"{name}{LITE}")) if offer.lite else full


class Scene:
    """The parts of one world."""

    def __init__(self, plan: Plan, random: Random, loop: VirtualLoop, watch: Watch) -> None:
        self._plan, self._random, self._loop, self._watch = plan, random, loop, watch
        offers = {f"v{number}": offer for number, offer in enumerate(plan.offers)}
        self.verticals = [_offered(name, offer) for name, offer in offers.items()]
        self._catalog = Catalog({vertical.name: vertical for vertical in self.verticals})
        self._terms = Terms(plan.share, {name: offer.tiers for name, offer in offers.items()})
        self._weights = dict.fromkeys(offers, 1.0) | {
            f"{name}{LITE}": offer.lite for name, offer in offers.items() if offer.lite
        }
        self.backends = [SimulatedBackend(life.speed, random, loop) for life in plan.lives]
        self.networks: list[Network] = []
        self.parts: list[Part] = []
        self.frontends = [self._frontend(weathers) for weathers in plan.weather]

    def _frontend(self, weathers: tuple[Weather, ...]) -> Frontend:
        places = range(len(self.backends))
        links = [self._link(place, weather) for place, weather in zip(places, weathers, strict=True)]
        gates, tokens = [self._gate(place) for place in places], WatchedTokens(self._watch)
        frontend = Frontend(
            self._catalog,
            {str(place): links[place] for place in places},
            {str(place): gates[place] for place in places},
            self._loop.time,
            self._terms,
            tokens=tokens,
        )
        queues = [queue for site, link in zip(frontend.sites, links, strict=True) for queue in self._queues(site, link)]
        self.parts += [*gates, *queues, tokens, WatchedWork(frontend.watchdog, gates, self._watch)]
        return frontend

    def _link(self, place: int, weather: Weather) -> Link:
        network = Network(self.backends[place], weather, self._random, self._loop)
        self.networks.append(network)
        return Link(network, self._weights, self._watch, self._plan.callers.bad)

    def _gate(self, place: int) -> WatchedGate:
        parallelism = self._plan.share * self._plan.lives[place].speed.instances
        budget_s = min(offer.budget_s for offer in self._plan.offers)
        return WatchedGate(law_for(self._plan.law, budget_s, parallelism), parallelism, self._loop.time, self._watch)

    def _queues(self, site: Site, link: Link) -> list[WatchedQueue]:
        queues = []
        for name, model in self._catalog.models.items():
            if name in site.batchers and model.batching:
                calls = math.ceil(model.batching.calls * self._plan.share)
                beside = self._plan.share == 1 and model.batching.calls > 1  # one short call may go beside the others
                held_s, most = LINGER * model.budget_s, calls + beside
                queues.append(WatchedQueue(site, name, link, most, self._watch, held_s=held_s, clock=self._loop.time))
        return queues
