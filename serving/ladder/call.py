"""A permit in use: closed in the way that the call ended, and what the call took is learned."""

import asyncio

from serving.admission.permit import Permit
from serving.admission.priority import Priority
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.estimates import Estimate
from serving.errors import BusyError, LateError
from serving.ladder.lane import Rung


class Call:
    """One try at one backend; however the block is left, or `end` is called, its permit ends once.

    A call that is given up, by the watchdog, by the caller or for another one, may be running on the backend; what
    still waits there is thrown out of the queue by its cancellation. So its permit is held for as long as one call's
    service lasts.

    A call that was given up after its predicted p99 is a miss, whoever gave it up: a slow backend that hedges make up
    for must be known as slow all the same. A backend that is not trusted by the time its permit ends was ill, and not
    overloaded: the limit learns nothing from it.

    Where our own queue stands before the scorer, what a call takes is learned there: here the wait and the company are
    in the time. What the limit learns is the whole time from here on, as ever. That a shadow request found no room
    tells nothing, since it goes only where others leave some.
    """

    def __init__(
        self,
        permit: Permit,
        rung: Rung,
        candidates: int,
        estimate: Estimate,
        *,
        ahead_s: float,
        clock: Clock = MONOTONIC,
    ) -> None:
        self.rung = rung
        self._permit = permit
        self.candidates = candidates
        self._estimate = estimate
        self._ahead_s = ahead_s
        self._clock = clock
        self._began_s = clock()
        self._over = False

    @property
    def p99_s(self) -> float:
        """Seconds from its begin by which it should be answered, with the wait for the work ahead."""
        return self._ahead_s + self._estimate.p99_s

    def succeed(self) -> None:
        """The scores are there."""
        if self._over:
            return
        self._over = True
        took_s = self._clock() - self._began_s
        self._permit.succeed(took_s)
        if self.rung.queue is None:
            self.rung.estimates.observe(self.candidates, took_s - self._ahead_s, self._estimate.p99_s)

    def end(self, kind: type[BaseException]) -> None:
        """It ended by an error of that class, or was given up; after the first end, nothing happens."""
        if self._over:
            return
        self._over = True
        if issubclass(kind, BusyError):
            self._refused()
        elif issubclass(kind, LateError | asyncio.CancelledError):
            spent_s = self._clock() - self._began_s
            if self.rung.queue is None and (issubclass(kind, LateError) or spent_s > self.p99_s):
                self.rung.estimates.miss(self.candidates, spent_s - self._ahead_s, self._estimate.p99_s)
            late = issubclass(kind, LateError)
            asyncio.get_running_loop().call_later(self._estimate.p99_s, self._let_go, late)
        else:
            self._permit.ignore()

    def _refused(self) -> None:
        # Theirs is the last place in every queue, so a full one or a long wait tells nothing of the others.
        if self._permit.grant.priority is Priority.SHADOW:
            self._permit.ignore()
        else:
            self._permit.drop()

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A block that was left in order, and without success, has had its answer from elsewhere.
        self.end(kind or asyncio.CancelledError)

    def _let_go(self, late: bool) -> None:
        if late and self.rung.trusted():
            self._permit.drop()
        else:
            self._permit.ignore()
