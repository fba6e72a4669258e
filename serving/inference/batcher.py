"""Batches formed here: a scorer with a queue of its own, which lets only so many calls be outstanding."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from serving.admission.priority import Priority
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.catalog import Batching
from serving.errors import BackendError, BadScoresError, BusyError, EjectedError, LateError
from serving.inference.company import Company, Span
from serving.inference.edf import EdfQueue, Ticket
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery

log = logging.getLogger(__name__)

SHORT = 0.3
"""A call that takes no more than this part of what the largest request takes may go beside the ordinary ones."""
_MOMENT_S = 1e-6
_OVERDUE_S = 1e-4
"""A call that has lasted longer than ever expected is taken to end in a moment, but not to have ended."""


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A scorer that also scores several requests of one model in one call."""

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> Sequence[Scores | BackendError]:
        """Score what must be there by `until` at the latest: for each query its scores, or what is wrong with them.

        Raises:
            BackendError: the call failed for all of them.
        """
        ...


@dataclass(eq=False)
class _Job:
    query: RankQuery
    until: Deadline
    answer: "asyncio.Future[Scores]"
    ticket: "Ticket[_Job] | None" = None
    call: "_Call | None" = None

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def settle(self, result: Scores | BackendError) -> None:
        if isinstance(result, BackendError):
            self.fail(result)
        elif not self.answer.done():
            self.answer.set_result(result)


@dataclass(eq=False)
class _Call(Span):
    """One that is outstanding."""

    jobs: list[_Job] = field(default_factory=list)
    extra: bool = False
    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None]" = field(init=False)

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(not job.answer.done() for job in self.jobs)


class EdfBatcher:
    """A `Scorer` over an `EdfQueue`: as many calls outstanding as the backend is meant to have, and none behind them.

    Order of service: who waits for an answer goes by deadline, live and normal alike. The gate has divided the
    capacity between them already; the earlier deadline first loses the fewest, and strict precedence would only starve
    what the gate has let in. Nobody waits for shadow requests: they go when no other is waiting, never in a batch with
    others.

    Short calls whose cost is mostly fixed are held back for company (`Company`). Where the backend has room for it, one
    may go beside long ones, beyond the ordinary calls: a small request would otherwise wait for whole large ones, and
    costs them next to nothing.

    A request leaves the queue with `BusyError` as soon as it couldn't be answered in time even if it were served at
    once; one that is cancelled frees its place. A batch that the backend refuses is sent again one by one, so that a
    bad request harms nobody else.

    The estimates learn here, from calls: how long so many candidates take, whosever they are. A call that nobody waits
    for any more goes on until its predicted p99, for it occupies the backend; then it is cancelled and was a miss.

    Attributes:
        calls: that ended well.
        scored: requests in them.
        dropped: requests that left the queue because they would have been late.
    """

    def __init__(
        self,
        scorer: BatchScorer,
        estimates: Estimates,
        batching: Batching,
        most_rows: int,
        clock: Clock = MONOTONIC,
        *,
        extra: bool = False,
        linger_s: float = 0.0,
    ) -> None:
        """A batcher without requests.

        Args:
            scorer: makes the calls.
            estimates: what a call takes; kept current by the calls.
            batching: how many may be outstanding, of how many requests each.
            most_rows: see `EdfQueue`.
            clock: the clock of the deadlines.
            extra: whether the backend has room for a short call beyond those.
            linger_s: see `Company`.
        """
        self._scorer = scorer
        self._estimates = estimates
        self._slots = batching.calls
        self._most_rows, self._extra = most_rows, extra
        self._clock = clock
        self._company, self._most = Company(estimates, linger_s), batching.most
        self._queue: EdfQueue[_Job] = EdfQueue(estimates.mean_s, batching.most, most_rows)
        self._running: list[_Call] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._held: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self.calls = self.scored = self.dropped = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`; `BusyError` at once when the predicted finish lies past `until`."""
        if until.remaining_s() <= 0:
            raise LateError("no time left for the call")
        job = _Job(query, until, asyncio.get_running_loop().create_future())
        background, now_s = query.priority is Priority.SHADOW, self._clock()
        if not background:
            self._company.came(len(query), now_s)
        free_s = None if not background and self._goes_beside(len(query)) else self._free_s()
        job.ticket = self._queue.offer(job, until.at_s, len(query), free_s, now_s=now_s, background=background)
        if job.ticket is None:
            self.dropped += 1
            raise BusyError("would not finish in time")
        self._pump()
        if job.ticket:
            self._watch(self._queue.late_s(job.ticket))
        try:
            return await job.answer
        finally:
            self._leave(job)

    def ahead_s(self, within_s: float = float("inf"), candidates: int = 0) -> float:
        """Seconds from which a request would end when it will, were it alone; 0: a call may begin at once.

        Args:
            within_s: seconds until its scores must be there; requests with later deadlines are not ahead of it.
            candidates: its size.
        """
        now_s = self._clock()
        if self._ordinary < self._slots:
            late_s = now_s + within_s - self._estimates.mean_s(candidates)
            held_until_s = self._held_until_s(now_s, candidates, late_s)
            if held_until_s is None:
                return 0.0
            together_s = self._estimates.mean_s(self._queue.together[1]) - self._estimates.mean_s(0)
            return max(held_until_s - now_s, _OVERDUE_S) + together_s
        if candidates and self._goes_beside(candidates):
            return 0.0
        return max(self._queue.start_s(now_s + within_s, self._free_s()) - now_s, _OVERDUE_S)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def outstanding(self) -> int:
        """Calls at the backend that are not given up."""
        return len(self._running)

    @property
    def _ordinary(self) -> int:
        """Outstanding calls that take one of the ordinary places."""
        return sum(not call.extra for call in self._running)

    @property
    def overdue_s(self) -> float:
        """How long a waiting request has had no hope any more to be in time; negative while all have."""
        return self._clock() - self._queue.first_late_s

    def eject(self) -> None:
        """Send away whoever waits: the backend has lost its trust."""
        for ticket in self._queue.clear():
            ticket.item.ticket = None
            ticket.item.fail(EjectedError("the backend lost its trust while the request waited"))

    def state(self) -> dict[str, Any]:
        """For `/state`, in JSON types."""
        return {
            "waiting": self.waiting,
            "outstanding": self.outstanding,
            "most_outstanding": self._slots + self._extra,
            "calls": self.calls,
            "scored": self.scored,
            "requests_per_call": round(self.scored / self.calls, 2) if self.calls else None,
            "dropped": self.dropped,
            "linger_ms": round(1e3 * self._company.linger_s(self._clock()), 3),
        }

    def _free_s(self) -> list[float]:
        """For each call that may be outstanding, the instant at which it can begin."""
        now_s = self._clock()
        ends_s = [self._end_s(call, now_s) for call in self._running if not call.extra]
        return ends_s + [now_s] * max(self._slots - len(ends_s), 0)

    def _end_s(self, call: _Call, now_s: float) -> float:
        ends_s = call.ends_s if call.ends_s > now_s else call.began_s + call.p99_s
        return max(ends_s, now_s + _OVERDUE_S)

    def _pump(self) -> None:
        """Begin as many calls as may be outstanding."""
        _stop(self._held)
        while len(self._queue) and ((free := self._ordinary < self._slots) or self._has_extra):
            now_s = self._clock()
            if free and (until_s := self._held_until_s(now_s)):
                self._held = asyncio.get_running_loop().call_later(until_s - now_s + _MOMENT_S, self._pump)
                return
            choice = self._queue.choose(self._clock(), None if free else self._short)
            for ticket in choice.dropped:
                self._drop(ticket.item)
            if not choice.batch:
                return
            # One that was cancelled a moment ago is still on its way out.
            jobs = [ticket.item for ticket in choice.batch if not ticket.item.answer.done()]
            if jobs:
                self._begin(jobs, extra=not free)

    def _held_until_s(self, now_s: float, candidates: int = 0, late_s: float = float("inf")) -> float | None:
        """See `Company.until_s`; `candidates`, `late_s`: of a request that would come to those who wait."""
        count, rows = self._queue.together
        count, rows = count + (candidates > 0), rows + candidates
        # Held only if one more like them could join.
        if not count or count >= self._most or rows * (count + 1) > self._most_rows * count:
            return None
        return self._company.until_s(self._running, rows, min(self._queue.first_late_s, late_s), now_s)

    def _goes_beside(self, candidates: int) -> bool:
        """Whether a request of that size would go at once, past those who wait: none of them is as short."""
        return self._has_extra and candidates <= self._short

    @property
    def _has_extra(self) -> bool:
        """Whether a short call may go beside the others: the backend has room for one, and they are all long."""
        if not self._extra or len(self._running) != self._slots:
            return False
        short = self._short
        return all(call.rows > short for call in self._running)

    @property
    def _short(self) -> int:
        """The most candidates of a short call."""
        outlook = self._estimates.outlook()
        return outlook.most(float("inf"), SHORT * outlook.mean_s(self._most_rows))

    def _begin(self, jobs: list[_Job], *, extra: bool) -> None:
        rows = sum(len(job.query) for job in jobs)
        estimate, now_s = self._estimates.predict(rows), self._clock()
        call = _Call(rows, now_s, now_s + estimate.mean_s, estimate.p99_s, jobs, extra)
        self._company.began(rows, now_s)
        for job in jobs:
            job.ticket, job.call = None, call
        self._running.append(call)
        call.task = asyncio.create_task(self._run(call))
        call.task.add_done_callback(lambda _: self._ended(call))

    async def _run(self, call: _Call) -> None:
        queries, until = [job.query for job in call.jobs], max(call.jobs, key=lambda job: job.until.at_s).until
        try:
            results = await self._scorer.score_together(queries, until)
        except BackendError as error:
            if isinstance(error, LateError):
                self._estimates.miss(call.rows, self._clock() - call.began_s, call.p99_s)
            if isinstance(error, BadScoresError) and len(call.jobs) > 1:
                await self._one_by_one(call.jobs)
            results = [error] * len(call.jobs)
        else:
            self._estimates.observe(call.rows, self._clock() - call.began_s, call.p99_s)
            self.calls += 1
            self.scored += len(call.jobs)
        for job, result in zip(call.jobs, results, strict=True):
            job.settle(result)

    async def _one_by_one(self, jobs: Sequence[_Job]) -> None:
        """A refused batch: whoever is bad shall be it alone."""
        for job in jobs:
            if not job.answer.done() and job.until.remaining_s() > 0:
                try:
                    (result,) = await self._scorer.score_together([job.query], job.until)
                except BackendError as error:
                    result = error
                job.settle(result)

    def _ended(self, call: _Call) -> None:
        """Its place is free, whatever came of it."""
        _stop(call.timer)
        self._running.remove(call)
        fault = None if call.task.cancelled() else call.task.exception()
        for job in call.jobs:
            job.fail(fault or LateError("the call was given up"))
            job.call = None
        self._pump()
        self._sweep()  # its time has changed what is expected of those who still wait

    def _watch(self, late_s: float) -> None:
        """Look after the queue when a waiting request becomes hopeless, if not before."""
        if self._alarm and self._alarm_s <= late_s:
            return
        _stop(self._alarm)
        self._alarm_s = late_s
        pause_s = max(late_s - self._clock(), _MOMENT_S)
        self._alarm = asyncio.get_running_loop().call_later(pause_s, self._sweep)

    def _sweep(self) -> None:
        """Let go of whoever has no hope any more to be in time."""
        _stop(self._alarm)
        self._alarm = None
        late, next_s = self._queue.drop_late(self._clock())
        for ticket in late:
            self._drop(ticket.item)
        if self.waiting:
            self._watch(next_s)

    def _drop(self, job: _Job) -> None:
        job.ticket = None
        if not job.answer.done():
            self.dropped += 1
            job.fail(BusyError("can't finish in time any more"))

    def _leave(self, job: _Job) -> None:
        """A request has its answer, or is given up."""
        if job.ticket and self._queue.remove(job.ticket):
            job.ticket = None
        call = job.call
        if call and call.timer is None and not call.wanted:
            pause_s = max(call.began_s + call.p99_s - self._clock(), 0.0)
            call.timer = asyncio.get_running_loop().call_later(pause_s, self._give_up, call)

    def _give_up(self, call: _Call) -> None:
        if not call.task.done():
            self._estimates.miss(call.rows, self._clock() - call.began_s)
            call.task.cancel()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
