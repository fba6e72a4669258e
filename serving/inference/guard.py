"""A scorer that lets nobody through until its canary has passed."""

import logging
from collections.abc import Callable

from serving.budget.deadline import Deadline
from serving.errors import UnavailableError
from serving.inference.canary import Canary, Finding, Sighting
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery

log = logging.getLogger(__name__)


class GuardedScorer:
    """Trusts its scorer from a passed canary on, until there is reason to doubt.

    Trust begins with the right answer inside the budget. After that, a slow right answer is load and no reason to turn
    requests away. A wrong answer and a backend that can't be reached end the trust at once, for what comes back at the
    same address may be another model; silence ends it after `strikes` canaries in a row.
    """

    def __init__(self, scorer: Scorer, canary: Canary, strikes: int = 2) -> None:
        self._scorer = scorer
        self._canary = canary
        self._strikes = strikes
        self._silent = 0
        self._trusted = False
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when a request's failure has ended the trust, so that the next canary needn't wait for its turn."""
        self.on_pass: Callable[[Sighting, bool], None] = lambda *_: None
        """Called with each passed canary, and whether it has begun the trust."""

    @property
    def trusted(self) -> bool:
        """Whether requests are let through."""
        return self._trusted

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`; without trust, `UnavailableError` at once."""
        if not self._trusted:
            raise UnavailableError(f"{query.vertical.name}: the canary has not passed")
        try:
            return await self._scorer.score(query, until)
        except UnavailableError as error:
            self._conclude(False, str(error))
            self.on_doubt()
            raise

    async def check(self) -> Sighting:
        """Send the canary once and draw the conclusion."""
        sighting = await self._canary.fly(self._scorer)
        self._silent = self._silent + 1 if sighting.finding is Finding.SILENT else 0
        trusted = self._judge(sighting.finding)
        if sighting.finding is Finding.PASSED:
            self.on_pass(sighting, not self._trusted)
        self._conclude(trusted, f"canary {sighting.finding.value}, {sighting.detail}")
        return sighting

    def _judge(self, finding: Finding) -> bool:
        if finding is Finding.PASSED:
            return True
        if finding is Finding.SLOW:
            return self._trusted
        return self._trusted and finding is Finding.SILENT and self._silent < self._strikes

    def _conclude(self, trusted: bool, why: str) -> None:
        if trusted != self._trusted:
            level, word = (logging.INFO, "trusted") if trusted else (logging.WARNING, "not trusted any more")
            log.log(level, "%s is %s: %s", self._canary.name, word, why)
        self._trusted = trusted
