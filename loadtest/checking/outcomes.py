"""What can become of a request: the one table of it, from the contract's tiers and gRPC's statuses to what is late."""

from enum import StrEnum

import grpc
import numpy as np
from numpy.typing import NDArray


class Outcome(StrEnum):
    """A tier that answered, best first, or what came instead of an answer."""

    FULL = "full"
    TRIMMED = "trimmed"
    LITE = "lite"
    PRIOR = "prior"
    SHED = "shed"
    UNANSWERED = "unanswered"
    FAILED = "failed"
    WRONG = "wrong"


TIERS = (Outcome.FULL, Outcome.TRIMMED, Outcome.LITE, Outcome.PRIOR)
"""The rungs of the ladder, best first; the contract numbers them from 1 on."""
SCORED = (Outcome.FULL, Outcome.TRIMMED, Outcome.LITE)
"""Those whose answers a model has scored."""
SAID = (*TIERS, Outcome.SHED)
"""What tells the caller something: an answer, or that there will be none."""
BAD = (Outcome.UNANSWERED, Outcome.FAILED, Outcome.WRONG)
"""What is an error to the caller: no answer, a failed call, an answer that contradicts itself or the request."""
_STATUSES = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: Outcome.SHED,
    grpc.StatusCode.DEADLINE_EXCEEDED: Outcome.UNANSWERED,
}


PAST = 1.01
"""How far past the budget percentiles count what came to nothing: by more than the histogram rounds."""


def of_tier(number: int) -> Outcome | None:
    """The tier that the contract numbers so; None for a number that it doesn't know."""
    return TIERS[number - 1] if 1 <= number <= len(TIERS) else None


def of_status(status: grpc.StatusCode | None) -> Outcome:
    """What a call that ended with a status, or with an error of another kind (None), amounts to."""
    return _STATUSES.get(status, Outcome.FAILED) if status else Outcome.FAILED


def late(latency_s: NDArray[np.float64], outcome: NDArray[np.str_], budget_s: float) -> NDArray[np.bool_]:
    """bool [N]: neither a sound answer nor a refusal (shed) was in the caller's hands within the budget.

    Args:
        latency_s: float64 [N], from the scheduled instant to the end of the call.
        outcome: str [N], values of `Outcome`.
        budget_s: of each.
    """
    past: NDArray[np.bool_] = latency_s > budget_s
    return past | ~np.isin(outcome, SAID)


def counted_s(latency_s: NDArray[np.float64], outcome: NDArray[np.str_], budget_s: float) -> NDArray[np.float64]:
    """float64 [N], latencies as percentiles count them: what is an error stands past the budget, however quick it was.

    Else a server that fails or answers wrongly at once would have a good p99. Arguments are those of `late`.
    """
    return np.where(np.isin(outcome, BAD), np.maximum(latency_s, PAST * budget_s), latency_s)
