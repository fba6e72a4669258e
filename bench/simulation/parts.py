"""The parts of a frontend under watch: its gates, its batchers, its hedges and the work that it has under way."""

from collections import Counter
from collections.abc import Sequence

from bench.simulation.link import Link
from bench.simulation.watch import ASKING, EPSILON_S, Ask, Watch
from serving.admission.gate import Gate
from serving.admission.law import Law, Sample
from serving.admission.permit import Grant, Outcome, Permit
from serving.admission.priority import Priority
from serving.balance.tokens import HedgeTokens
from serving.budget.clock import Clock
from serving.budget.watchdog import Watchdog
from serving.inference.site import Site

HEDGES_SHARE, HEDGES_MOST = 0.05, 10.0
GUARANTEED = {Priority.LIVE: 0.7, Priority.NORMAL: 0.2, Priority.SHADOW: 0.1}
"""Of a gate's limit, by priority."""
PATIENCE_S = 0.1 - 1e-9
"""For how long a priority that was refused is waited for, less what clocks round."""
_ENDS = (Outcome.SUCCEEDED, Outcome.IGNORED, Outcome.DROPPED)


class WatchedGate(Gate):
    """Keeps books of its own on the permits, to be compared with the gate's."""

    def __init__(self, law: Law, parallelism: float, clock: Clock, watch: Watch) -> None:
        super().__init__(law, parallelism=parallelism, clock=clock)
        self._watch = watch
        self._given: dict[int, tuple[Grant, Ask]] = {}  # by identity; kept, so that no other has the same
        self._inside: Counter[Priority] = Counter()
        self._used_ns: Counter[Priority] = Counter()
        self._refused_s: dict[Priority, float] = {}
        self._given_ns = self._bound_ns = self._entered = 0

    def try_enter(self, cost_s: float, priority: Priority = Priority.LIVE) -> Permit | None:
        """See `Gate.try_enter`."""
        limit_ns, alone = int(self.limit_s * 1e9), not self._given_ns
        permit = super().try_enter(cost_s, priority)
        self._judge_shares(permit is not None, round(cost_s * 1e9), priority, limit_ns)
        if permit is not None:
            grant, ask = permit.grant, ASKING.get()
            self._given[id(grant)] = (grant, ask)
            self._inside[priority] += 1
            self._used_ns[priority] += grant.cost_ns
            self._entered += 1
            self._given_ns += grant.cost_ns
            self._bound_ns = max(limit_ns, grant.cost_ns) if alone else limit_ns
            ask.permits += 1
            self._judge()
        return permit

    def end(self, grant: Grant, outcome: Outcome, sample: Sample) -> None:
        """See `Gate.end`."""
        super().end(grant, outcome, sample)
        known = self._given.pop(id(grant), None)
        if known is None:
            self._watch.fault("permits: one ended twice")
            return
        self._given_ns -= grant.cost_ns
        known[1].permits -= 1
        self._inside[grant.priority] -= 1
        self._used_ns[grant.priority] -= grant.cost_ns
        inside, open_ = self.in_flight(grant.priority), self._inside[grant.priority]
        if inside != open_:
            self._watch.fault(f"counters: {inside} of {grant.priority.name} in flight, {open_} permits are open")

    def lose(self, grant: Grant) -> None:
        """See `Gate.lose`."""
        self._watch.fault("permits: one was forgotten")
        super().lose(grant)

    def look(self) -> None:
        """See `Part.look`."""
        if self.calls != len(self._given) or self.in_flight_s != self._given_ns / 1e9:
            has = f"{self.calls} calls and {self.in_flight_s} s"
            self._watch.fault(f"permits: the gate has {has}, open are {len(self._given)} of {self._given_ns} ns")
        self._judge()

    def look_back(self) -> None:
        """When all is over: nothing is left, and all counters add up."""
        counts = self.counts()
        for priority in Priority:
            entered, ended = counts[priority, Outcome.ENTERED], sum(counts[priority, end] for end in _ENDS)
            if entered != ended:
                self._watch.fault(f"counters: {entered} of {priority.name} entered, {ended} ended")
        entered = sum(counts[priority, Outcome.ENTERED] for priority in Priority)
        if entered != self._entered:
            self._watch.fault(f"counters: {self._entered} permits were given, {entered} counted")
        if self._given:
            self._watch.fault(f"permits: {len(self._given)} are open when all is over")

    def _judge_shares(self, entered: bool, cost_ns: int, priority: Priority, limit_ns: int) -> None:
        inside = self._used_ns[priority] + cost_ns <= int(GUARANTEED[priority] * limit_ns)
        if not entered:
            self._refused_s[priority] = self.now_s()
            if inside and self._given_ns + cost_ns <= limit_ns:
                self._watch.fault(f"shares: {priority.name} was refused {cost_ns} ns inside its share")
        elif not inside:
            since_s = self.now_s() - PATIENCE_S
            if any(at_s > since_s for higher, at_s in self._refused_s.items() if higher < priority):
                self._watch.fault(f"shares: {priority.name} was lent {cost_ns} ns while a higher one waits")

    def _judge(self) -> None:
        if self._given_ns > self._bound_ns:
            self._watch.fault(f"limit: {self._given_ns} ns in flight, {self._bound_ns} may be")


class WatchedQueue:
    """A model's batcher, as the link behind it sees its calls."""

    def __init__(
        self, site: Site, model: str, link: Link, most: int, watch: Watch, *, held_s: float, clock: Clock
    ) -> None:
        """Most: calls that may be outstanding; held_s: for how long requests may wait though none is."""
        self._batcher, self._guard = site.batchers[model], site.guards[model]
        self._model, self._link, self._most, self._watch = model, link, most, watch
        self._held_s, self._clock, self._idle_s = held_s, clock, float("inf")

    def look(self) -> None:
        """See `Part.look`."""
        batcher, link, name = self._batcher, self._link, self._model
        calls, seen = batcher.outstanding, link.outstanding[name]
        if calls != seen or calls > self._most:
            self._watch.fault(f"queue: {calls} calls outstanding, the backend has {seen}, {self._most} may be")
        if batcher.waiting:
            if not self._guard.trusted:
                self._watch.fault("queue: requests wait for a backend that is not trusted")
            if batcher.overdue_s > EPSILON_S:
                self._watch.fault(f"queue: a request waits {batcher.overdue_s:.6f} s past hope")
        now_s = self._clock()
        self._idle_s = min(self._idle_s, now_s) if batcher.waiting and not calls else float("inf")
        if now_s - self._idle_s > self._held_s + EPSILON_S:
            self._watch.fault(f"queue: requests wait for {now_s - self._idle_s:.6f} s and no call is outstanding")
        counted, served = (batcher.calls, batcher.scored), (link.served[name], link.scored[name])
        # The company of a request that the model refuses is called again one by one, which no batcher counts.
        if counted > served or (counted != served and not link.refuses):
            self._watch.fault(f"counters: a batcher has {counted} calls and requests, its backend {served}")

    def look_back(self) -> None:
        """When all is over."""
        if self._batcher.waiting or self._batcher.outstanding:
            self._watch.fault("queue: a batcher holds requests when all is over")


class WatchedTokens(HedgeTokens):
    """Counts for itself how many requests could have been hedged."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(HEDGES_SHARE, HEDGES_MOST)
        self._watch = watch
        self._asked = 0

    def accrue(self) -> None:
        """See `HedgeTokens.accrue`."""
        super().accrue()
        self._asked += 1

    def look(self) -> None:
        """See `Part.look`."""
        if self.left < 0 or self.taken > HEDGES_SHARE * self._asked + HEDGES_MOST:
            self._watch.fault(f"hedges: {self.taken} for {self._asked} requests, {self.left} tokens left")

    def look_back(self) -> None:
        """When all is over."""
        self.look()


class WatchedWork:
    """What runs under a frontend's watchdog."""

    def __init__(self, watchdog: Watchdog, gates: Sequence[Gate], watch: Watch) -> None:
        self._watchdog, self._gates, self._watch = watchdog, gates, watch

    def look(self) -> None:
        """See `Part.look`."""
        running = self._watchdog.running
        if running and running > (permits := sum(gate.calls for gate in self._gates)):
            self._watch.fault(f"work: {running} pieces run with {permits} permits")

    def look_back(self) -> None:
        """When all is over."""
        if self._watchdog.running:
            self._watch.fault(f"work: {self._watchdog.running} pieces still run when all is over")
