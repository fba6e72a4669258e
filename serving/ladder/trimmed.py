"""Tier `trimmed`: the model for the most promising candidates, the prior for the rest, behind them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.ladder.order import descending
from serving.query import RankQuery

# A product in float32 may round up by less than this share.
_BELOW = 1 - 1e-6


@dataclass(frozen=True)
class Trimmed:
    """A query cut down.

    Attributes:
        query: the most promising candidates, in the request's order.
        index: int64 [K], their places in the request, increasing.
    """

    query: RankQuery
    index: NDArray[np.int64]


def trim(query: RankQuery, prior: NDArray[np.float32], keep: int) -> Trimmed:
    """The `keep` candidates of the highest expected value by the prior, ties as in the request.

    Args:
        query: with N candidates.
        prior: float32 [N, T], what the prior says of them.
        keep: 1 to N.
    """
    promising = descending(query.bids * prior[:, 0] + 0.0)[:keep]
    index = np.sort(promising)
    inputs = {name: values[index] if name.startswith("candidate_") else values for name, values in query.inputs.items()}
    return Trimmed(replace(query, inputs=inputs, ads=query.ads[index], bids=query.bids[index]), index)


def widen(
    trimmed: Trimmed, scored: NDArray[np.float32], prior: NDArray[np.float32], bids: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Probabilities of all candidates, such that every scored one is worth more than the rest.

    The rest keeps the prior's order. Where it would overtake, its probability of the first task, which makes the
    expected value, is scaled down for all of the rest by one factor, to just below the least of the scored; the other
    tasks keep what the prior says. Among candidates that are worth nothing, the request's order decides.

    Args:
        trimmed: K candidates of N.
        scored: float32 [K, T], the model's.
        prior: float32 [N, T].
        bids: float64 [N].

    Returns:
        float32 [N, T], in the request's order.
    """
    rest = np.ones(len(bids), bool)
    rest[trimmed.index] = False
    probability = prior.copy()
    probability[trimmed.index] = scored
    least = float((trimmed.query.bids * scored[:, 0]).min())
    most = float((bids * prior[:, 0])[rest].max(initial=0.0))
    if most >= least and most > 0:
        probability[rest, 0] *= np.float32(_BELOW * least / most)
    return probability
