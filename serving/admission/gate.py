"""The gate: who may occupy the backend now. Synchronous, without I/O; one event loop calls it."""

import logging
import math
from collections import Counter, deque
from collections.abc import Mapping

from serving.admission.law import Law, Sample
from serving.admission.permit import Grant, Outcome, Permit
from serving.admission.priority import Priority
from serving.admission.shares import DEFAULT_SHARES, Shares
from serving.budget.clock import MONOTONIC, Clock

log = logging.getLogger(__name__)


class Gate:
    """Lets requests in while their predicted service time fits under the law's limit.

    A request enters if the cost in flight with its own stays within the limit, and `Shares` says that its priority may
    have the room. One larger than the whole limit enters when nothing else is in flight, or it would wait for ever. A
    limit that falls takes nothing back from those inside; it only lets nobody in until they have left.

    Costs are kept in whole nanoseconds, so that what is in flight is exactly the sum of the open permits.
    """

    def __init__(
        self,
        law: Law,
        shares: Mapping[Priority, float] = DEFAULT_SHARES,
        parallelism: float = 1.0,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Parallelism: seconds of cost that the backend does per second, such as its number of instances.

        Raises:
            ValueError: shares that don't fit, or a parallelism that isn't positive.
        """
        self._law = law
        self._shares = Shares(shares)
        self._clock = clock
        self._counts: Counter[tuple[Priority, Outcome]] = Counter()
        self._calls = 0
        self._lost: deque[Grant] = deque()
        self._warned = False
        self.parallelism = parallelism

    @property
    def parallelism(self) -> float:
        """Seconds of cost done per second; set it when an instance goes or comes."""
        return self._parallelism

    @parallelism.setter
    def parallelism(self, value: float) -> None:
        if not 0 < value < math.inf:
            raise ValueError(f"parallelism is {value}; expected a positive number")
        self._parallelism = value

    @property
    def limit_s(self) -> float:
        """Seconds of cost that may be in flight."""
        return self._law.limit_s

    @property
    def in_flight_s(self) -> float:
        """Seconds of cost in flight."""
        self._reap()
        return self._shares.total_ns / 1e9

    @property
    def ahead_s(self) -> float:
        """How long a request that entered now would wait for what is in flight, in seconds."""
        return self.in_flight_s / self._parallelism

    @property
    def calls(self) -> int:
        """How many permits are open."""
        self._reap()
        return self._calls

    def room_s(self, priority: Priority = Priority.LIVE) -> float:
        """Seconds of cost that a request of that priority could enter with now."""
        self._reap()
        return self._shares.room_ns(priority, int(self._law.limit_s * 1e9), self._clock()) / 1e9

    def used_s(self, priority: Priority) -> float:
        """Seconds of cost in flight of that priority."""
        self._reap()
        return self._shares.used_ns[priority] / 1e9

    def in_flight(self, priority: Priority) -> int:
        """How many permits of that priority are open."""
        self._reap()
        return self._counts[priority, Outcome.ENTERED] - sum(
            self._counts[priority, end] for end in (Outcome.SUCCEEDED, Outcome.IGNORED, Outcome.DROPPED)
        )

    def counts(self) -> dict[tuple[Priority, Outcome], int]:
        """How often each outcome was met, by priority; every pair is there."""
        self._reap()
        return {(priority, outcome): self._counts[priority, outcome] for priority in Priority for outcome in Outcome}

    def try_enter(self, cost_s: float, priority: Priority = Priority.LIVE) -> Permit | None:
        """A permit to be closed by the caller, or None: no room. A refusal is no error, and costs next to nothing.

        Args:
            cost_s: the service time predicted for the request alone, in seconds.
            priority: whose share it comes from.

        Raises:
            ValueError: the cost is negative or not finite.
        """
        if not math.isfinite(cost_s) or cost_s < 0:
            raise ValueError(f"cost_s is {cost_s}, not a number of seconds")
        self._reap()
        now_s, cost_ns, limit_ns = self._clock(), round(cost_s * 1e9), int(self._law.limit_s * 1e9)
        if not self._shares.admits(priority, cost_ns, limit_ns, now_s):
            self._counts[priority, Outcome.REFUSED] += 1
            return None
        self._shares.take(priority, cost_ns)
        self._counts[priority, Outcome.ENTERED] += 1
        self._calls += 1
        return Permit(Grant(priority, cost_ns, now_s, self._shares.total_ns / 1e9), self)

    def now_s(self) -> float:
        """Seconds on the gate's clock."""
        return self._clock()

    def end(self, grant: Grant, outcome: Outcome, sample: Sample) -> None:
        """Take a grant back; for `Permit` alone."""
        self._shares.give_back(grant.priority, grant.cost_ns)
        self._calls -= 1
        self._counts[grant.priority, outcome] += 1
        if outcome is not Outcome.IGNORED:
            self._law.update(sample)

    def lose(self, grant: Grant) -> None:
        """Note a grant whose permit was collected unclosed; for `Permit` alone."""
        # Collection may happen amid any other method and on any thread: only an atomic note here, the rest in _reap.
        self._lost.append(grant)

    def _reap(self) -> None:
        while self._lost:
            grant = self._lost.popleft()
            self._shares.give_back(grant.priority, grant.cost_ns)
            self._calls -= 1
            self._counts[grant.priority, Outcome.IGNORED] += 1
            self._counts[grant.priority, Outcome.LEAKED] += 1
            if not self._warned:
                self._warned = True
                log.error(
                    "a permit of priority %s was never closed; further ones are only counted", grant.priority.name
                )
