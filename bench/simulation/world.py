"""One seeded world: the real gates, laws, estimates, batchers, breakers, ladder and watchdog on simulated backends.

Time is virtual, and before every step of the clock the world is held to the invariants of `bench.simulation.watch`.

What is real: everything from the door's decision to the answer, as one to three worker processes have it, which share
one to three backends and serve one or two verticals, each with its own tiers, with lite models or without. Simulated
are the backends, the network to them (`bench.simulation.network`), and the callers: what they have left of their
budgets arrives short or spent, they give up, and their connections break. How long a request is on its way to us is
left out, for gRPC sends what is left of a deadline, and not the deadline.

Outside: the bytes (codec, servicer, gRPC), histories, the log of impressions, the files of refreshed priors, starts,
drains and restarts of processes, and stalls of our own loop, whose time no answer could make up for.
"""

import asyncio
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from bench.simulation.backend import Health
from bench.simulation.frontend import Frontend
from bench.simulation.plan import Plan
from bench.simulation.requests import SIZES, prior_of, query_of, wrong_with
from bench.simulation.scene import Scene
from bench.simulation.virtual import VirtualLoop, run
from bench.simulation.watch import ASKING, Ask, Watch
from serving.admission.priority import Priority
from serving.budget.deadline import Arrival
from serving.errors import OverloadedError
from serving.ladder.live import Edition
from serving.query import RankQuery

SETTLE_S = 30.0
TRUSTED_S = 4.0
TRUSTED_AFTER_SLOW_S = 8.0
REPLY_S = 0.002
"""What the server keeps back for its reply at least, or half of the budget where that is less."""
PROBE_S = 0.01
"""Between two measurements of the way in, as the server's own probe takes them."""
RECOVERY_TRIES, RECOVERY_S = 6, 0.5
LEFT = (None, 1.5, 1.0, 1.0, 0.5, 0.05, -0.1)
"""What callers have left, in budgets; None: they set no deadline."""
PRIORITIES = (Priority.LIVE, Priority.LIVE, Priority.NORMAL, Priority.SHADOW)


def simulate(seed: int) -> Watch:
    """Run the world of that seed to its end; the same seed does the same, step by step.

    Raises:
        ViolationError: an invariant was broken.
    """
    loop = VirtualLoop()
    return run(World(seed, loop).play(), loop)


class World:
    """A scene, its callers, and what happens to them."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self._random = random = Random(seed)
        self._loop, self._clock = loop, loop.time
        self._plan = Plan.draw(random)
        self._watch = Watch(seed, loop.time)
        self._scene = Scene(self._plan, random, loop, self._watch)
        self._asking: list[dict[asyncio.Task[str], Ask]] = [{} for _ in self._scene.frontends]
        self._wait_s = 0.0
        self._until_s = 0.0
        self._probes = True

    async def play(self) -> Watch:
        """Let requests arrive and faults happen, wait for the end, and check what must hold then."""
        self._watch.over(self._scene.parts)
        self._loop.set_exception_handler(self._broken)
        self._loop.watch(self._watch.look)
        for frontend in self._scene.frontends:
            frontend.start()
        for frontend in self._scene.frontends:
            await frontend.readiness.wait()
        self._until_s = self._clock() + self._plan.seconds
        self._foresee()
        self._probe()
        self._arrive()
        await asyncio.sleep(self._plan.seconds)
        self._heal()
        await self._check_trust()
        await self._check_recovery()
        self._probes = False
        for frontend in self._scene.frontends:
            frontend.stop()
        await asyncio.sleep(SETTLE_S)
        for part in self._scene.parts:
            part.look_back()
        self._watch.look()
        self._watch.hold(not self._watch.open, f"unanswered: {len(self._watch.open)} when all is over")
        return self._watch

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._watch.fault(f"callback: {context.get('exception', context['message'])!r}")

    def _foresee(self) -> None:
        """Set the timers of all that is planned."""
        later, random, callers = self._loop.call_later, self._random, self._plan.callers
        for life, backend in zip(self._plan.lives, self._scene.backends, strict=True):
            for at_s, health in life.faults:
                later(at_s, backend.become, health)
        for network in self._scene.networks:
            network.begin()
        if callers.crowd:
            from_s, until_s, wait_s = callers.crowd
            later(from_s, self._crowd, wait_s)
            later(until_s, self._crowd, 0.0)
        for at_s in callers.gone_s:
            later(at_s, self._hang_up, random.randrange(len(self._asking)))
        later(random.uniform(0.0, self._plan.seconds), self._refresh)

    def _heal(self) -> None:
        self._wait_s = 0.0
        for backend in self._scene.backends:
            backend.become(Health.WELL)
        for network in self._scene.networks:
            network.calm()

    def _crowd(self, wait_s: float) -> None:
        self._wait_s = wait_s * (self._clock() < self._until_s)

    def _probe(self) -> None:
        for frontend in self._scene.frontends:
            frontend.door.observe(self._wait_s)
        if self._probes:
            self._loop.call_later(PROBE_S, self._probe)

    def _refresh(self) -> None:
        for frontend in self._scene.frontends:
            for name, prior in frontend.priors.items():
                prior.renew(Edition(prior_of(name, 1), 1))

    def _hang_up(self, place: int) -> None:
        for task in list(self._asking[place]):
            self._give_up(place, task)

    def _give_up(self, place: int, task: "asyncio.Task[str]") -> None:
        if not task.done():
            self._watch.due(self._asking[place][task], self._clock())
            task.cancel()

    def _arrive(self) -> None:
        """One request, and the next one after a while."""
        if self._clock() >= self._until_s:
            return
        random, place = self._random, self._random.randrange(len(self._asking))
        vertical, left = random.choice(self._scene.verticals), random.choice(LEFT)
        query = query_of(self._watch.offered, vertical, random.choice(SIZES), random.choice(PRIORITIES))
        task = self._ask(place, query, None if left is None else left * vertical.budget_s)
        if random.random() < 0.05:
            self._loop.call_later(vertical.budget_s * random.random(), self._give_up, place, task)
        self._loop.call_later(self._plan.gap_s(random), self._arrive)

    def _ask(self, place: int, query: RankQuery, left_s: float | None) -> "asyncio.Task[str]":
        ask, frontend = self._watch.offer(), self._scene.frontends[place]
        arrival = Arrival(self._clock(), left_s, self._wait_s)
        task = self._loop.create_task(self._answer(frontend, ask, query, arrival))
        self._asking[place][task] = ask
        task.add_done_callback(partial(self._over, place))
        return task

    async def _answer(self, frontend: Frontend, ask: Ask, query: RankQuery, arrival: Arrival) -> str:
        """What becomes of a request, in a word."""
        ASKING.set(ask)
        if arrival.hopeless:
            return "refused"
        due_s = _due_s(arrival, query.vertical.budget_s)
        until, last = frontend.deadlines(arrival, query.vertical)
        if not frontend.door.admits(query.priority, arrival.waited_s):
            return "door"
        self._watch.due(ask, max(min(until.at_s, due_s), self._clock()))
        try:
            answer = await frontend.rank(query, until, last)
        except OverloadedError:
            return "shed"
        if wrong := wrong_with(answer, query):
            self._watch.fault(f"scores: of request {ask.number}: {wrong}")
        frontend.reserve.observe(self._random.expovariate(1e3))
        return answer.tier.name.lower()

    def _over(self, place: int, task: "asyncio.Task[str]") -> None:
        ask = self._asking[place].pop(task)
        if task.cancelled():
            self._watch.answer(ask, "cancelled")
        elif error := task.exception():
            self._watch.fault(f"unanswered: request {ask.number} failed: {error!r}")
        else:
            self._watch.answer(ask, task.result())

    async def _check_trust(self) -> None:
        slow = any(life.was_slow for life in self._plan.lives)
        within_s, frontends = TRUSTED_AFTER_SLOW_S if slow else TRUSTED_S, self._scene.frontends
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not all(frontend.trusted for frontend in frontends):  # noqa: ASYNC110 virtual time costs nothing
                    await asyncio.sleep(0.01)
        trusted = all(frontend.trusted for frontend in frontends)
        self._watch.hold(trusted, f"trust: a backend is well and not trusted for {within_s} s")

    async def _check_recovery(self) -> None:
        """Small requests, one at a time: what a vertical has a model for is answered by one."""
        waiting = [
            (place, vertical)
            for vertical in self._scene.verticals
            for place, frontend in enumerate(self._scene.frontends)
            if len(frontend.tiers(vertical)) > 1
        ]
        for _ in range(RECOVERY_TRIES):
            for place, vertical in tuple(waiting):
                query = query_of(self._watch.offered, vertical, min(SIZES), Priority.LIVE)
                task = self._ask(place, query, None)
                await asyncio.wait((task,))
                if task.result() in ("full", "trimmed", "lite"):
                    waiting.remove((place, vertical))
            if not waiting:
                return
            await asyncio.sleep(RECOVERY_S)
        self._watch.fault(f"recovery: {len(waiting)} of the frontends' verticals get nothing but the prior")


def _due_s(arrival: Arrival, budget_s: float) -> float:
    """When the scores must be there at the latest, worked out here: what is under test doesn't judge itself."""
    arrived_s = arrival.taken_s - arrival.waited_s
    at_s = arrived_s + budget_s
    if arrival.caller_s is not None:
        at_s = min(at_s, arrival.taken_s + arrival.caller_s)
    return at_s - min(REPLY_S, (at_s - arrived_s) / 2)
