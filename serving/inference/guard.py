"""A scorer that lets nobody through until its canary has passed, nor while its backend is ill."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.errors import LateError, SchemaMismatchError, UnavailableError
from serving.inference.breaker import Breaker, Cause
from serving.inference.canary import Canary, Finding, Sighting
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery

log = logging.getLogger(__name__)


async def _nothing() -> None:
    pass


class GuardedScorer:
    """Trusts its scorer while the breaker is closed, and tells the breaker of every request and every canary.

    Trust begins with the right answer inside the budget. After that, a slow right answer is load and no reason to turn
    requests away. A wrong answer and a backend that can't be reached end the trust at once, for what comes back at the
    same address may be another model; so does silence, see `Breaker`.
    """

    def __init__(
        self,
        scorer: Scorer,
        canary: Canary,
        backend: str = "",
        *,
        probed: Scorer | None = None,
        p99_s: Callable[[int], float] = lambda _: 0.0,
        vet: Callable[[], Awaitable[None]] = _nothing,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Prepare.

        Args:
            scorer: whom to guard.
            canary: of its vertical.
            backend: its name, for people.
            probed: whom canaries are sent to, past any queue that `scorer` keeps; None: `scorer` itself.
            p99_s: what 99 of 100 calls with so many candidates would not exceed now, any wait included, in seconds.
            vet: asked before the canary of a backend that is new or was gone or wrong; raises `UnavailableError` or
                `SchemaMismatchError` if that has not the right model.
            clock: of the breaker.
        """
        self.backend = backend
        self.breaker = Breaker(clock)
        self.last = "not yet flown"
        self._scorer = scorer
        self._probed = probed or scorer
        self._canary = canary
        self._p99_s = p99_s
        self._vet = vet
        self._clock = clock
        self._told = False
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when a request's failure has ended the trust, so that the next canary needn't wait for its turn."""
        self.on_loss: Callable[[], None] = lambda: None
        """Called whenever the trust has ended."""
        self.on_pass: Callable[[Sighting, bool], None] = lambda *_: None
        """Called with each passed canary, and whether it is the first of a backend that is new or was gone or wrong."""

    @property
    def trusted(self) -> bool:
        """Whether requests are let through."""
        return self.breaker.closed

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`; without trust, `UnavailableError` at once."""
        if not self.trusted:
            raise UnavailableError(f"{query.vertical.name}: the canary has not passed")
        began_s, budget_s = self._clock(), query.vertical.budget_s
        expected_s = min(self._p99_s(len(query)), budget_s)
        try:
            scores = await self._scorer.score(query, until)
        except UnavailableError as error:
            self.breaker.gone()
            self._tell(str(error), doubt=True)
            raise
        except (LateError, asyncio.CancelledError):
            # Half of the budget is too long whatever is predicted; a call given up sooner than either tells nothing.
            if self._clock() - began_s >= min(expected_s, budget_s / 2):
                self.breaker.unanswered(max(expected_s, budget_s / 2))
                self._tell("it answers no requests", doubt=True)
            raise
        self.breaker.answered()
        return scores

    async def check(self) -> Sighting:
        """Send the canary once and draw the conclusion."""
        fresh = not self.trusted and self.breaker.cause is not Cause.SILENT
        sighting = Sighting(Finding.SILENT, "given up", 0.0)
        self.breaker.depart()
        try:
            sighting = (await self._inspect() if fresh else None) or await self._canary.fly(self._probed)
        finally:
            self.breaker.arrive(sighting.finding)
        if sighting.finding is Finding.PASSED:
            self.on_pass(sighting, fresh)
        self.last = f"{sighting.finding.value}: {sighting.detail}"
        self._tell(f"canary {sighting.finding.value}, {sighting.detail}")
        return sighting

    async def _inspect(self) -> Sighting | None:
        """What is wrong with the backend's models, if anything."""
        try:
            await self._vet()
        except UnavailableError as error:
            return Sighting(Finding.GONE, str(error), 0.0)
        except SchemaMismatchError as error:
            return Sighting(Finding.WRONG, str(error), 0.0)
        return None

    def _tell(self, why: str, doubt: bool = False) -> None:
        """Log a change of trust, and call for a canary where a request has brought it about."""
        if self.trusted == self._told:
            return
        self._told = self.trusted
        level, word = (logging.INFO, "trusted") if self.trusted else (logging.WARNING, "not trusted any more")
        where = f" at {self.backend}" if self.backend else ""
        log.log(level, "%s%s is %s: %s", self._canary.name, where, word, why)
        if not self.trusted:
            self.on_loss()
            if doubt:
                self.on_doubt()
