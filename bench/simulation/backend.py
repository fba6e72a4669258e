"""A backend in virtual time: a few instances behind one queue, with the faults that real ones have."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

import numpy as np

from serving.admission.priority import Priority
from serving.budget.deadline import Deadline
from serving.errors import BackendError, BusyError, UnavailableError
from serving.inference.scorer import Scores
from serving.query import RankQuery


class Health(Enum):
    """What the backend is up to."""

    WELL = "well"
    SLOW = "slow"
    HUNG = "hung"
    DEAD = "dead"


@dataclass(frozen=True)
class Speed:
    """How long a call takes, and how many run at once.

    Attributes:
        base_s, per_candidate_s: the median service time is base_s + n * per_candidate_s.
        sigma: of its log-normal factor.
        instances: calls that are served at once.
        queue: calls that may wait; more are refused.
        slow: factor while slow.
    """

    base_s: float
    per_candidate_s: float
    sigma: float
    instances: int
    queue: int
    slow: float = 5.0


class SimulatedBackend:
    """Takes calls in order of arrival. A cancelled call that is being served goes on occupying its instance, as in
    Triton; one that waits leaves the queue. While hung, nothing starts or ends and nothing answers to cancellation.
    """

    def __init__(self, speed: Speed, random: Random) -> None:
        self.health = Health.WELL
        self.busy = 0
        self._speed = speed
        self._random = random
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._awake = asyncio.Event()
        self._awake.set()

    def become(self, health: Health) -> None:
        """Change health; what is in flight on a dying backend fails."""
        self.health = health
        if health is Health.HUNG:
            self._awake.clear()
        else:
            self._awake.set()
        if health is Health.DEAD:
            while self._waiting:
                if not (place := self._waiting.popleft()).done():
                    place.set_exception(UnavailableError("the backend died"))

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `serving.inference.scorer.Scorer.score`."""
        del until
        await self._take(len(query))
        return _scores(query)

    async def _take(self, candidates: int) -> None:
        """Enter, and be served."""
        self._refuse_if_dead()
        await self._enter()
        service = asyncio.ensure_future(self._serve(candidates))
        service.add_done_callback(self._freed)
        await asyncio.shield(service)
        self._refuse_if_dead()

    def _refuse_if_dead(self) -> None:
        if self.health is Health.DEAD:
            raise UnavailableError("the backend is dead")

    async def _enter(self) -> None:
        if self.busy < self._speed.instances:
            self.busy += 1
            return
        if len(self._waiting) >= self._speed.queue:
            raise BusyError("the queue is full")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        """Pass the instance on to the first that waits."""
        while self._waiting:
            if not (place := self._waiting.popleft()).done():
                place.set_result(None)
                return
        self.busy -= 1

    async def _serve(self, candidates: int) -> None:
        speed = self._speed
        median_s = speed.base_s + candidates * speed.per_candidate_s
        factor = speed.slow if self.health is Health.SLOW else 1.0
        await asyncio.sleep(median_s * factor * self._random.lognormvariate(0.0, speed.sigma))
        await self._awake.wait()

    def _freed(self, service: "asyncio.Future[None]") -> None:
        service.exception()
        self._leave()


class BatchedBackend(SimulatedBackend):
    """Takes whole batches, and holds each to what a batch must be.

    Attributes:
        faults: what was wrong with a batch, in words.
        outstanding: batches that it was asked for and that are not given up.
        peak: the most there were at once.
    """

    def __init__(self, speed: Speed, random: Random, most: int) -> None:
        super().__init__(speed, random)
        self.faults: list[str] = []
        self.outstanding = self.peak = 0
        self._most = most

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
        """See `serving.inference.batcher.BatchScorer.score_together`."""
        self._judge(queries, until)
        self.outstanding += 1
        self.peak = max(self.peak, self.outstanding)
        try:
            await self._take(sum(map(len, queries)))
        finally:
            self.outstanding -= 1
        return [_scores(query) for query in queries]

    def _judge(self, queries: Sequence[RankQuery], until: Deadline) -> None:
        if not 1 <= len(queries) <= self._most:
            self.faults.append(f"a batch of {len(queries)} requests")
        if len(queries) > 1 and sum(map(len, queries)) > queries[0].vertical.max_candidates:
            self.faults.append("a batch larger than the largest request")
        if len({query.priority is Priority.SHADOW for query in queries}) > 1:
            self.faults.append("a batch of shadow requests and others")
        if until.remaining_s() < 0:
            self.faults.append("a batch that began after its last deadline")


def _scores(query: RankQuery) -> Scores:
    return Scores(np.full((len(query), len(query.vertical.tasks)), 0.5, np.float32), 0)
