"""The ladder: the best answer that the deadline, the work ahead and the backends allow."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.admission.gate import Gate
from serving.admission.permit import Permit
from serving.admission.priority import Priority
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.budget.watchdog import Watchdog
from serving.catalog import Vertical
from serving.errors import BackendError, BusyError, LateError
from serving.inference.scorer import Scorer, Scores
from serving.ladder.choice import FEWEST, Ask, Choice, choose
from serving.ladder.prior import PriorSource
from serving.ladder.tier import REASON_OF, Reason, Tier
from serving.ladder.trimmed import trim, widen
from serving.query import RankQuery

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung:
    """A tier, the scorer that makes its answers, and how long that takes. Rungs of one model share its estimates.

    `model` is the one that scores, where it isn't the vertical's own.
    """

    tier: Tier
    scorer: Scorer
    estimates: Estimates
    model: Vertical | None = None


@dataclass(frozen=True)
class Answer:
    """Probabilities and how they came about.

    Attributes:
        probability: float32 [N, T].
        tier: which rung they come from.
        reason: why from no better one.
        unknown: category values that stand in no vocabulary, where a model scored.
        model: which one scored, where it isn't the vertical's own.
    """

    probability: NDArray[np.float32]
    tier: Tier
    reason: Reason = Reason.NONE
    unknown: int = 0
    model: Vertical | None = None


class Ladder:
    """One vertical's rungs, best first, above the prior; all of them ask a backend behind one gate."""

    def __init__(
        self,
        rungs: Sequence[Rung],
        prior: PriorSource,
        watchdog: Watchdog,
        gate: Gate,
        *,
        fewest: int = FEWEST,
        clock: Clock = MONOTONIC,
    ) -> None:
        self._rungs = tuple(rungs)
        self._prior = prior
        self._watchdog = watchdog
        self._gate = gate
        self._fewest = fewest
        self._clock = clock

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """What this ladder can answer with, best first."""
        return (*(rung.tier for rung in self._rungs), Tier.PRIOR)

    async def answer(self, query: RankQuery, until: Deadline, last: Deadline) -> Answer:
        """The best answer whose scores can be there by `until`; from the prior, if none can or none came.

        Raises:
            OverloadedError: `last` is over: not even the prior's answer would be in time.
        """
        rungs, why, answer_s = self._rungs, Reason.NONE, last.remaining_s()
        while True:
            ask = self._moment(query, until, answer_s)
            choice = choose(rungs, ask)
            why = why or choice.reason
            if choice.tier is Tier.PRIOR:
                return Answer(self._prior.lookup(query.ads), Tier.PRIOR, why)
            rung, rungs = rungs[choice.place], rungs[choice.place + 1 :]
            permit = self._gate.try_enter(choice.estimate.mean_s, query.priority)
            if permit is None:
                why = why or Reason.NO_ROOM
                continue
            call = _Call(permit, rung.estimates, choice, ask.ahead_s, self._clock)
            try:
                return await self._scored(query, until, rung, call, why)
            except BackendError as error:
                log.debug("%s: tier %s: %s", query.vertical.name, rung.tier.name, error)
                why = why or REASON_OF[type(error)]
            except Exception:
                log.exception("%s: tier %s: the scorer failed", query.vertical.name, rung.tier.name)
                why = why or Reason.SCORER_FAILED
            # The same backend has just failed; and whoever was let in gets an answer, however late it has become.
            rungs = tuple(other for other in rungs if other.scorer is not rung.scorer)
            answer_s = float("inf")

    def _moment(self, query: RankQuery, until: Deadline, answer_s: float) -> Ask:
        gate = self._gate
        free = sum(gate.in_flight(priority) for priority in Priority) < gate.parallelism
        ahead_s, room_s = 0.0 if free else gate.ahead_s, gate.limit_s - gate.in_flight_s
        return Ask(len(query), until.remaining_s(), answer_s, ahead_s, room_s, self._fewest)

    async def _scored(self, query: RankQuery, until: Deadline, rung: Rung, call: "_Call", why: Reason) -> Answer:
        with call:
            if call.choice.candidates == len(query):
                scores = await self._ask(rung, query, until, call)
                return Answer(scores.probability, rung.tier, why, scores.unknown, rung.model)
            prior = self._prior.lookup(query.ads)
            trimmed = trim(query, prior, call.choice.candidates)
            scores = await self._ask(rung, trimmed.query, until, call)
        probability = widen(trimmed, scores.probability, prior, query.bids)
        return Answer(probability, rung.tier, why, scores.unknown, rung.model)

    async def _ask(self, rung: Rung, query: RankQuery, until: Deadline, call: "_Call") -> Scores:
        scores = await self._watchdog.within(rung.scorer.score(query, until), until)
        call.succeed()
        return scores


class _Call:
    """A permit in use: closed in the way that the call ended, and what the call took is learned.

    A call that is given up, by the watchdog or by the caller, may be running on the backend; what still waits there
    is thrown out of the queue by its cancellation. So its permit is held for as long as one call's service lasts.
    """

    def __init__(self, permit: Permit, estimates: Estimates, choice: Choice, ahead_s: float, clock: Clock) -> None:
        self.choice = choice
        self._permit = permit
        self._estimates = estimates
        self._ahead_s = ahead_s
        self._clock = clock
        self._began_s = clock()

    def succeed(self) -> None:
        took_s = self._clock() - self._began_s
        self._permit.succeed(took_s)
        self._estimates.observe(self.choice.candidates, took_s - self._ahead_s)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        permit, loop = self._permit, asyncio.get_running_loop()
        if issubclass(kind, LateError):
            self._estimates.miss(self.choice.candidates, self._clock() - self._began_s - self._ahead_s)
            loop.call_later(self.choice.estimate.p99_s, permit.drop)
        elif issubclass(kind, asyncio.CancelledError):
            loop.call_later(self.choice.estimate.p99_s, permit.ignore)
        elif issubclass(kind, BusyError):
            permit.drop()
        else:
            permit.ignore()
