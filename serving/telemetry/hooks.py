"""What the core tells of each request, once, and to whom; it knows nothing of metrics or traces."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Arrival
from serving.budget.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Details:
    """One request, after its answer or refusal.

    Attributes:
        vertical: empty if the request was refused before it named one that is served.
        tier: full, trimmed, lite or prior; empty for a refusal.
        reason: why from no better tier.
        code: gRPC's status by name.
        candidates: how many ads it carried.
        budget_s: what it was given; 0 if it was refused before that was known.
        spent_s: from the arrival until now.
        stages: name and seconds of each stage passed.
        priority: empty where there is none.
    """

    vertical: str
    tier: str
    reason: str
    code: str
    candidates: int
    budget_s: float
    spent_s: float
    stages: tuple[tuple[str, float], ...]
    priority: str = ""


Hook = Callable[[Details], None]
"""Called on the event loop for every request, so it must be quick; what it raises is logged, not felt."""


@dataclass(slots=True)
class Visit:
    """What the ranker learns of a request on its way; the servicer makes the details of it."""

    arrived_s: float
    vertical: str = ""
    tier: str = ""
    reason: str = ""
    candidates: int = 0
    budget_s: float = 0.0
    ledger: Ledger | None = None
    priority: str = ""


class Hooks:
    """Opens a visit per request and tells every hook when it is over."""

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._hooks: list[Hook] = []
        self._failed: set[Hook] = set()
        self.in_flight = 0

    def add(self, hook: Hook) -> None:
        """Tell `hook` of every request from now on."""
        self._hooks.append(hook)

    def open(self, arrival: Arrival) -> Visit:
        """A request has come; each visit must be closed once."""
        self.in_flight += 1
        return Visit(arrival.arrived_s)

    def close(self, visit: Visit, code: str) -> None:
        """The request is over with gRPC's status `code`."""
        self.in_flight -= 1
        details = Details(
            visit.vertical,
            visit.tier if code == "OK" else "",
            visit.reason if code == "OK" else "",
            code,
            visit.candidates,
            visit.budget_s,
            self._clock() - visit.arrived_s,
            visit.ledger.stages if visit.ledger else (),
            visit.priority,
        )
        for hook in self._hooks:
            try:
                hook(details)
            except Exception:
                self._complain(hook)

    def _complain(self, hook: Hook) -> None:
        if hook not in self._failed:
            log.exception("a telemetry hook failed; its further failures are not logged")
        self._failed.add(hook)
