"""The last requests of each vertical, for `/state`: percentiles against the budget, and tiers."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Any

from serving.telemetry.hooks import Details


class Recent:
    """A hook that remembers the last `window` answers per vertical, and counts all."""

    def __init__(self, window: int = 1024) -> None:
        self._answers: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=window))
        self._tiers: dict[str, Counter[str]] = defaultdict(Counter)

    def __call__(self, details: Details) -> None:
        """Note one request."""
        self._tiers[details.vertical][details.tier or details.code.lower()] += 1
        if details.tier:
            self._answers[details.vertical].append((details.spent_s, details.budget_s))

    def of(self, vertical: str) -> dict[str, Any]:
        """Counts since the start by tier or refusal, and percentiles of the last answers; JSON types only."""
        answers = self._answers.get(vertical, ())
        spent_ms = sorted(1e3 * spent_s for spent_s, _ in answers)
        shares = sorted(spent_s / budget_s for spent_s, budget_s in answers if budget_s > 0)
        return {
            "answers": dict(self._tiers.get(vertical, {})),
            "p50_ms": _quantile(spent_ms, 0.5),
            "p99_ms": _quantile(spent_ms, 0.99),
            "p50_of_budget": _quantile(shares, 0.5),
            "p99_of_budget": _quantile(shares, 0.99),
        }


def _quantile(ranked: Sequence[float], share: float) -> float | None:
    return round(ranked[math.ceil(share * len(ranked)) - 1], 4) if ranked else None
