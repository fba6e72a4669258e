"""The ladder: the best answer that the deadline, the work ahead and the backends allow."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.catalog import Vertical
from serving.errors import BackendError
from serving.ladder.call import Call
from serving.ladder.choice import FEWEST
from serving.ladder.hedge import Hedging
from serving.ladder.lane import Lane, Want, best_offer
from serving.ladder.prior import PriorSource
from serving.ladder.tier import REASON_OF, Reason, Tier
from serving.ladder.trimmed import trim, widen
from serving.query import RankQuery

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """Probabilities and how they came about.

    Attributes:
        probability: float32 [N, T].
        tier: which rung they come from.
        reason: why from no better one.
        unknown: category values that stand in no vocabulary, where a model scored.
        model: which one scored, where it isn't the vertical's own.
        scored: int64 [K], the candidates' places that a model scored, where it wasn't all: the prior's are the rest.
    """

    probability: NDArray[np.float32]
    tier: Tier
    reason: Reason = Reason.NONE
    unknown: int = 0
    model: Vertical | None = None
    scored: NDArray[np.int64] | None = None

    def by_prior(self, index: int) -> bool:
        """Whether the prior, not a model, said what candidate `index` is worth."""
        return self.tier is Tier.PRIOR or (self.scored is not None and index not in self.scored)


class Ladder:
    """One vertical's lanes, each a backend's rungs, best first, above the prior."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        prior: PriorSource,
        hedging: Hedging,
        *,
        fewest: int = FEWEST,
        clock: Clock = MONOTONIC,
    ) -> None:
        self._lanes = tuple(lanes)
        self._best = self.tiers[0]
        self._prior = prior
        self._hedging = hedging
        self._fewest = fewest
        self._clock = clock

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """What this ladder can answer with, best first."""
        return (*sorted({rung.tier for lane in self._lanes for rung in lane.rungs}), Tier.PRIOR)

    async def answer(self, query: RankQuery, until: Deadline, last: Deadline) -> Answer:
        """The best answer whose scores can be there by `until`; from the prior, if none can or none came.

        Raises:
            OverloadedError: `last` is over: not even the prior's answer would be in time.
        """
        lanes, why, answer_s = self._lanes, Reason.NONE, last.remaining_s()
        while True:
            want = Want(len(query), until.remaining_s(), answer_s, self._fewest, query.priority)
            offer = best_offer(lanes, want)
            choice, lane, rung = offer.choice, offer.lane, offer.rung
            why = why or choice.reason
            if lane is None or rung is None:
                return Answer(self._prior.lookup(query.ads), Tier.PRIOR, why)
            permit = lane.gate.try_enter(choice.estimate.mean_s, query.priority)
            if permit is None:
                why = why or Reason.NO_ROOM
                lanes = _with(lanes, lane, lane.below(rung))
                continue
            call = Call(permit, rung, choice.candidates, choice.estimate, ahead_s=choice.ahead_s, clock=self._clock)
            others = tuple(other for other in lanes if other.backend != lane.backend)
            try:
                return await self._scored(query, until, call, others, why)
            except BackendError as error:
                log.debug("%s: %s, tier %s: %s", query.vertical.name, lane.backend, rung.tier.name, error)
                why = why or REASON_OF[type(error)]
            except Exception:
                log.exception("%s: %s, tier %s: the scorer failed", query.vertical.name, lane.backend, rung.tier.name)
                why = why or Reason.SCORER_FAILED
            # The same backend has just failed; and whoever was let in is not shed. The ranker refuses what is late.
            lanes = _with(lanes, lane, lane.without(rung))
            answer_s = float("inf")

    async def _scored(
        self, query: RankQuery, until: Deadline, call: Call, others: Sequence[Lane], why: Reason
    ) -> Answer:
        tier = call.rung.tier
        # What the best tier answered has nothing to excuse, whichever backend it took.
        why = Reason.NONE if tier is self._best else why
        if call.candidates == len(query):
            scores = await self._hedging.ask(call, query, until, others)
            return Answer(scores.probability, tier, why, scores.unknown, call.rung.model)
        with call:
            prior = self._prior.lookup(query.ads)
            trimmed = trim(query, prior, call.candidates)
            scores = await self._hedging.ask(call, trimmed.query, until, others)
        probability = widen(trimmed, scores.probability, prior, query.bids)
        return Answer(probability, tier, why, scores.unknown, call.rung.model, trimmed.index)


def _with(lanes: Sequence[Lane], old: Lane, new: Lane) -> tuple[Lane, ...]:
    return tuple(new if lane is old else lane for lane in lanes)
