"""Batches formed in the frontend: a scorer that keeps its own queue and lets only so many calls be outstanding."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.batching.edf import EdfQueue, Ticket
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.errors import BackendError, BusyError, LateError
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery

ScoreTogether = Callable[[Sequence[RankQuery]], Awaitable[Sequence[Scores]]]
"""One call for several requests; one `Scores` each, or a `BackendError` for all of them."""


@dataclass(frozen=True)
class _Job:
    query: RankQuery
    answer: "asyncio.Future[Scores]"


class EdfBatcher:
    """A `Scorer` over an `EdfQueue`: as many calls outstanding as the model has instances, and none behind them.

    Attributes:
        calls: model calls that ended well.
        scored: requests in them.
    """

    def __init__(
        self,
        together: ScoreTogether,
        estimates: Estimates,
        slots: int,
        most: int,
        *,
        cautious: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        """A batcher without requests.

        Args:
            together: makes the calls.
            estimates: what a call takes; kept current by the calls.
            slots: the most calls outstanding.
            most: the most requests in a call.
            cautious: predict the 99th percentile instead of the mean.
            clock: the clock of the deadlines.
        """
        self._together = together
        self._estimates = estimates
        self._slots = slots
        self._clock = clock
        self._cautious = cautious
        self._queue: EdfQueue[_Job] = EdfQueue(self._predict_s, most)
        self._running: dict[asyncio.Task[None], float] = {}
        self.calls = self.scored = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`; `LateError` at once when the predicted finish lies past `until`."""
        job = _Job(query, asyncio.get_running_loop().create_future())
        if not self._queue.offer(job, until.at_s, len(query), self._free_s()):
            raise LateError("would not finish in time")
        self._pump()
        return await job.answer

    def _predict_s(self, candidates: int) -> float:
        estimate = self._estimates.predict(candidates)
        return estimate.p99_s if self._cautious else estimate.mean_s

    def _free_s(self) -> list[float]:
        now_s = self._clock()
        ends_s = [max(end_s, now_s) for end_s in self._running.values()]
        return ends_s + [now_s] * (self._slots - len(ends_s))

    def _pump(self) -> None:
        """Begin as many calls as may be outstanding."""
        while len(self._queue) and len(self._running) < self._slots:
            now_s = self._clock()
            choice = self._queue.choose(now_s)
            _drop(choice.dropped)
            jobs = [ticket.item for ticket in choice.batch if not ticket.item.answer.done()]
            if jobs:
                task = asyncio.create_task(self._run(jobs, now_s))
                self._running[task] = now_s + self._estimates.predict(choice.candidates).mean_s
                task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        self._pump()

    async def _run(self, jobs: Sequence[_Job], start_s: float) -> None:
        try:
            scores = await self._together([job.query for job in jobs])
        except BackendError as error:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        self._estimates.observe(sum(len(job.query) for job in jobs), self._clock() - start_s)
        self.calls += 1
        self.scored += len(jobs)
        for job, one in zip(jobs, scores, strict=True):
            if not job.answer.done():
                job.answer.set_result(one)


class BoundedScorer:
    """A scorer behind a fixed number of requests in flight; `BusyError` for what finds no room."""

    def __init__(self, inner: Scorer, most: int) -> None:
        self._inner = inner
        self._most = most
        self._inside = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`."""
        if self._inside >= self._most:
            raise BusyError(f"{self._most} requests are in flight")
        self._inside += 1
        try:
            return await self._inner.score(query, until)
        finally:
            self._inside -= 1


def _drop(tickets: Sequence[Ticket[_Job]]) -> None:
    for ticket in tickets:
        if not ticket.item.answer.done():
            ticket.item.answer.set_exception(LateError("can't finish in time any more"))
