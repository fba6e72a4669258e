"""The ladder: the best answer that the deadline and the backends allow."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.errors import BackendError
from serving.inference.scorer import Scorer
from serving.ladder.prior import Prior
from serving.ladder.tier import REASON_OF, Reason, Tier
from serving.query import RankQuery

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung:
    """A tier and the scorer that makes its answers."""

    tier: Tier
    scorer: Scorer


@dataclass(frozen=True)
class Answer:
    """Probabilities and how they came about.

    Attributes:
        probability: float32 [N, T].
        tier: which rung they come from.
        reason: why from no better one.
        unknown: category values that stand in no vocabulary, where a model scored.
    """

    probability: NDArray[np.float32]
    tier: Tier
    reason: Reason = Reason.NONE
    unknown: int = 0


class Ladder:
    """One vertical's rungs, best first, above the prior."""

    def __init__(self, rungs: Sequence[Rung], prior: Prior, watchdog: Watchdog) -> None:
        self._rungs = tuple(rungs)
        self._prior = prior
        self._watchdog = watchdog

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """What this ladder can answer with, best first."""
        return (*(rung.tier for rung in self._rungs), Tier.PRIOR)

    async def answer(self, query: RankQuery, until: Deadline) -> Answer:
        """The answer of the first rung that has one before `until`, else the prior's; only cancellation is raised."""
        why = Reason.NONE
        for rung in self._rungs:
            if until.remaining_s() <= 0:
                why = why or Reason.NO_TIME
                break
            try:
                scores = await self._watchdog.within(rung.scorer.score(query, until), until)
                return Answer(scores.probability, rung.tier, why, scores.unknown)
            except BackendError as error:
                log.debug("%s: tier %s: %s", query.vertical.name, rung.tier.name, error)
                why = why or REASON_OF[type(error)]
            except Exception:
                log.exception("%s: tier %s: the scorer failed", query.vertical.name, rung.tier.name)
                why = why or Reason.SCORER_FAILED
        return Answer(self._prior.lookup(query.ads), Tier.PRIOR, why)
