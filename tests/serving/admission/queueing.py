"""A backend of known capacity, with the real gate before it; `python -m tests.serving.admission.queueing` prints.

First in, first out, `servers` at once, each doing `speed` seconds of cost per second; arrivals evenly spaced. Nothing
is random, and an entry's end is known when it enters, so a run is one pass over arrivals and ends in order of time.
"""

import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

from serving.admission.choose import LAWS, law_for
from serving.admission.gate import Gate
from serving.admission.law import Law
from serving.admission.permit import Permit
from serving.admission.priority import Priority

BUDGET_S = 0.025
PATIENCE_S = 0.023
"""When the watchdog gives up: the budget less a reply reserve."""


@dataclass(frozen=True)
class Backend:
    """`speed` may change: pairs of (from second, speed)."""

    servers: int = 2
    speeds: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    def speed(self, now_s: float) -> float:
        return [speed for since_s, speed in self.speeds if since_s <= now_s][-1]


@dataclass
class Run:
    """What came of a run: the limit after each sample, and how the requests of the second half ended."""

    limits_s: list[tuple[float, float]] = field(default_factory=list)
    offered: int = 0
    refused: int = 0
    dropped: int = 0
    done_s: float = 0.0
    worst_s: float = 0.0

    def band(self, since_s: float, until_s: float = float("inf")) -> tuple[float, float]:
        """Least and greatest limit within that time."""
        seen = [limit_s for at_s, limit_s in self.limits_s if since_s <= at_s < until_s]
        return min(seen), max(seen)


@dataclass
class _Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def arrivals(costs_s: tuple[float, ...], rate: float, seconds: float) -> Iterator[tuple[float, float]]:
    """Instants and costs: evenly spaced so that `rate` seconds of cost arrive per second."""
    gap_s, at_s = sum(costs_s) / len(costs_s) / rate, 0.0
    for cost_s in cycle(costs_s):
        if at_s >= seconds:
            return
        yield at_s, cost_s
        at_s += gap_s


def simulate(
    law: Law,
    backend: Backend,
    offered: float,
    costs_s: tuple[float, ...] = (0.0025,),
    seconds: float = 10.0,
    *,
    foreseen: bool = False,
) -> Run:
    """Offer `offered` times what the backend can do at speed 1; figures are of the second half.

    With `foreseen`, a request that is predicted to end late isn't tried, which is how the ladder uses the gate.
    """
    clock, run = _Clock(), Run()
    gate = Gate(law, parallelism=backend.servers, clock=clock)
    free_s, ends = [0.0] * backend.servers, list[tuple[float, int, Permit, bool]]()

    def end_until(now_s: float) -> None:
        while ends and ends[0][0] <= now_s:
            clock.now_s, _, permit, late = heapq.heappop(ends)
            permit.drop() if late else permit.succeed()
            run.limits_s.append((clock.now_s, gate.limit_s))

    for index, (at_s, cost_s) in enumerate(arrivals(costs_s, offered * backend.servers, seconds)):
        end_until(at_s)
        clock.now_s, counted = at_s, at_s >= seconds / 2
        run.offered += counted
        wait_s = gate.ahead_s if gate.in_flight(Priority.LIVE) >= backend.servers else 0.0
        hopeless = foreseen and wait_s + cost_s > PATIENCE_S
        permit = None if hopeless else gate.try_enter(cost_s)
        if permit is None:
            run.refused += counted
            continue
        # Work that was given up is done all the same: the worst backend, one that can't be cancelled.
        start_s = max(at_s, heapq.heappop(free_s))
        done_s = start_s + cost_s / backend.speed(start_s)
        heapq.heappush(free_s, done_s)
        late = done_s - at_s > PATIENCE_S
        run.dropped += late and counted
        run.done_s += cost_s if counted and not late else 0.0
        run.worst_s = max(run.worst_s, min(done_s - at_s, PATIENCE_S)) if counted else 0.0
        heapq.heappush(ends, (min(done_s, at_s + PATIENCE_S), index, permit, late))
    end_until(float("inf"))
    return run


CASES = {
    "as predicted, x2": (Backend(), 2.0),
    "as predicted, x10": (Backend(), 10.0),
    "half as fast as predicted, x2": (Backend(speeds=((0.0, 0.5),)), 2.0),
    "half as fast as predicted, x10": (Backend(speeds=((0.0, 0.5),)), 10.0),
    "a quarter as fast, x10": (Backend(speeds=((0.0, 0.25),)), 10.0),
    "half again as fast, x10": (Backend(speeds=((0.0, 1.5),)), 10.0),
}


def table() -> str:
    """Work done in time as a share of what the backend could do, losses as a share of what entered, limit, latency."""
    rows = ["| backend and load | law | done in time | dropped of entered | limit, ms | worst latency, ms |"]
    rows.append("|---|---|---|---|---|---|")
    for case, (backend, offered) in CASES.items():
        for name in LAWS:
            run = simulate(law_for(name, BUDGET_S, backend.servers), backend, offered)
            able_s = 5.0 * backend.servers * backend.speed(0.0)
            low_s, high_s = run.band(5.0)
            lost = run.dropped / (run.offered - run.refused)
            rows.append(
                f"| {case} | {name} | {run.done_s / able_s:.1%} | {lost:.1%} "
                f"| {low_s * 1e3:.1f} to {high_s * 1e3:.1f} | {run.worst_s * 1e3:.1f} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
