"""What a run amounts to, in figures that a budget can be held against."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.driving.open_loop import Reply
from serving.client import Ranking


@dataclass(frozen=True)
class Summary:
    """One run.

    Attributes:
        requests: sent, refused and failed ones included.
        budget_ms: the requests' budget; the largest, if they had several.
        p50_ms, p99_ms: latency from the scheduled instant over all of them.
        within_budget: share that was answered, with ads, inside its own budget.
        by_tier: tier name to share of requests; refusals and failures stand under the name of their exception.
        generator_late_p99_ms: the generator's own lateness.
    """

    requests: int
    budget_ms: float
    p50_ms: float
    p99_ms: float
    within_budget: float
    by_tier: dict[str, float]
    generator_late_p99_ms: float


def summarise(replies: Sequence[Reply[Ranking]], budget_ms: float | Sequence[float]) -> Summary:
    """Sum up a run of at least one request.

    Args:
        replies: one per request.
        budget_ms: what all of them had, or what each had.

    Raises:
        ValueError: there are not as many budgets as replies.
    """
    budgets_ms = np.array([budget_ms] * len(replies) if isinstance(budget_ms, int | float) else budget_ms, float)
    if len(budgets_ms) != len(replies):
        raise ValueError(f"{len(budgets_ms)} budgets for {len(replies)} replies")
    latency_ms = np.array([reply.latency_s for reply in replies]) * 1e3
    answered = np.array([not isinstance(reply.answer, Exception) for reply in replies])
    tiers = Counter(_tier(reply) for reply in replies)
    return Summary(
        requests=len(replies),
        budget_ms=float(budgets_ms.max()),
        p50_ms=float(np.percentile(latency_ms, 50)),
        p99_ms=float(np.percentile(latency_ms, 99)),
        within_budget=float(np.mean(answered & (latency_ms <= budgets_ms))),
        by_tier={tier: count / len(replies) for tier, count in sorted(tiers.items())},
        generator_late_p99_ms=float(np.percentile([reply.lateness_s * 1e3 for reply in replies], 99)),
    )


def _tier(reply: Reply[Ranking]) -> str:
    return type(reply.answer).__name__ if isinstance(reply.answer, Exception) else reply.answer.tier.name.lower()
