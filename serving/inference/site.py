"""One backend as a worker has it: its gate, and per vertical a guarded scorer with its estimates."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serving.admission.gate import Gate
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.estimates import Estimates
from serving.catalog import Vertical
from serving.inference.canary import Canary, Sighting
from serving.inference.guard import GuardedScorer
from serving.inference.scorer import Scorer

Vet = Callable[[str, Vertical], Awaitable[None]]
"""Makes sure that the backend of that name has the vertical's model; see `GuardedScorer`."""


async def no_vet(_: str, __: Vertical) -> None:
    """For backends that need none."""


class Site:
    """What is known and measured of one backend, apart from every other one."""

    def __init__(
        self,
        backend: str,
        models: Mapping[str, Vertical],
        scorers: Mapping[str, Scorer],
        gate: Gate,
        *,
        vet: Vet = no_vet,
        clock: Clock = MONOTONIC,
    ) -> None:
        self.backend = backend
        self.gate = gate
        self._clock = clock
        self.estimates = {name: Estimates(clock=clock, profile=model.profile) for name, model in models.items()}
        self.guards = {name: self._guard(vertical, scorers[name], vet) for name, vertical in models.items()}

    def _guard(self, vertical: Vertical, scorer: Scorer, vet: Vet) -> GuardedScorer:
        estimates = self.estimates[vertical.name]

        def learn(sighting: Sighting, fresh: bool) -> None:
            learn_from = estimates.seed if fresh else estimates.lower
            learn_from(len(vertical.golden.probability), sighting.spent_s)

        guard = GuardedScorer(
            scorer,
            Canary(vertical, clock=self._clock),
            self.backend,
            p99_s=lambda candidates: self.gate.ahead_s + estimates.predict(candidates).p99_s,
            vet=lambda: vet(self.backend, vertical),
            clock=self._clock,
        )
        guard.on_pass = learn
        return guard

    def state(self) -> dict[str, Any]:
        """For `/state`, in JSON types."""
        return {
            "limit_s": self.gate.limit_s,
            "in_flight_s": self.gate.in_flight_s,
            "calls": self.gate.calls,
            "verticals": {
                name: {**_state_of(guard), "coverage": round(self.estimates[name].coverage, 4)}
                for name, guard in self.guards.items()
            },
        }


def _state_of(guard: GuardedScorer) -> dict[str, Any]:
    breaker = guard.breaker
    return {
        "trusted": guard.trusted,
        "breaker": breaker.state.value,
        "cause": "" if guard.trusted else breaker.cause.value,
        "ejections": {cause.value: count for cause, count in breaker.ejections.items()},
        "canary": guard.last,
    }
