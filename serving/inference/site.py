"""One backend as a worker has it: its gate, and per vertical a guarded scorer with its estimates."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from serving.admission.gate import Gate
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.estimates import Estimates
from serving.catalog import Vertical
from serving.inference.batcher import BatchScorer, EdfBatcher
from serving.inference.canary import Canary, Sighting
from serving.inference.company import LINGER
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
        share: float = 1.0,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Prepare.

        Args:
            backend: its name.
            models: by name.
            scorers: by model.
            gate: the backend's.
            vet: see `GuardedScorer`.
            share: of the calls that may be outstanding at the backend, as one of several workers.
            clock: of everything.
        """
        self.backend = backend
        self.gate = gate
        self._clock = clock
        self.estimates = {name: Estimates(clock=clock, profile=model.profile) for name, model in models.items()}
        self.batchers = {
            name: self._batcher(model, scorer, share)
            for name, model in models.items()
            if model.batching and isinstance(scorer := scorers[name], BatchScorer)
        }
        self.guards = {name: self._guard(vertical, scorers[name], vet) for name, vertical in models.items()}

    def _batcher(self, model: Vertical, scorer: BatchScorer, share: float) -> EdfBatcher:
        assert model.batching
        # Rounded up: a worker without a call to make would serve nobody, and the server queues one too many.
        batching = replace(model.batching, calls=math.ceil(model.batching.calls * share))
        estimates, most = self.estimates[model.name], model.max_candidates
        # With other workers beside it, nobody knows whether the instance that is left over is free.
        extra, linger_s = share == 1 and batching.calls > 1, LINGER * model.budget_s
        return EdfBatcher(scorer, estimates, batching, most, self._clock, extra=extra, linger_s=linger_s)

    def _guard(self, vertical: Vertical, scorer: Scorer, vet: Vet) -> GuardedScorer:
        estimates, batcher = self.estimates[vertical.name], self.batchers.get(vertical.name)

        def p99_s(candidates: int) -> float:
            ahead_s = batcher.ahead_s() if batcher else self.gate.ahead_s
            return ahead_s + estimates.predict(candidates).p99_s

        def learn(sighting: Sighting, fresh: bool) -> None:
            learn_from = estimates.seed if fresh else estimates.lower
            learn_from(len(vertical.golden.probability), sighting.spent_s)

        guard = GuardedScorer(
            batcher or scorer,
            Canary(vertical, clock=self._clock),
            self.backend,
            probed=scorer,
            p99_s=p99_s,
            vet=lambda: vet(self.backend, vertical),
            clock=self._clock,
        )
        guard.on_pass = learn
        if batcher:
            guard.on_loss = batcher.eject
        return guard

    def state(self) -> dict[str, Any]:
        """For `/state`, in JSON types."""
        return {
            "limit_s": self.gate.limit_s,
            "in_flight_s": self.gate.in_flight_s,
            "calls": self.gate.calls,
            "verticals": {
                name: {
                    **_state_of(guard),
                    "coverage": round(self.estimates[name].coverage, 4),
                    **({"batches": self.batchers[name].state()} if name in self.batchers else {}),
                }
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
