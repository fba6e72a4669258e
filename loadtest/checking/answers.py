"""Whether an answer is one: complete, finite, in order, of a known tier, its ledger adding up. Fast isn't enough."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import of_tier
from loadtest.workload.asked import Asked
from serving.rpc.pb import ranking_pb2 as pb

RELATIVE = 1e-5
"""Expected values may differ so much from bid times probability: products may be rounded in single precision."""


def fault_of(asked: Asked, response: pb.RankResponse) -> str:
    """What is wrong with an answer, in a few words without the request's own values; empty for a sound one."""
    return next(_faults(asked, response), "")


def tier_of(response: pb.RankResponse) -> str:
    """The tier's name; empty for one that the contract doesn't know."""
    return of_tier(response.tier) or ""


def _faults(asked: Asked, response: pb.RankResponse) -> Iterator[str]:
    if response.request_id != asked.request_id:
        yield "another request's id"
    if not tier_of(response):
        yield "no known tier"
    yield from _ranking_faults(asked, response)
    yield from _ledger_faults(response.ledger)


def _ranking_faults(asked: Asked, response: pb.RankResponse) -> Iterator[str]:
    ads = np.array(response.ad_ids, np.int64)
    expected = np.array(response.expected_values, np.float64)
    if len(ads) != len(asked) or len(expected) != len(asked):
        yield f"{len(ads)} ads and {len(expected)} expected values for {len(asked)} candidates"
        return
    order = np.argsort(ads, kind="stable")
    if (ads[order] != asked.ads).any():
        yield "not the request's ads, each once"
        return
    back = np.argsort(order, kind="stable")
    yield from _score_faults(asked, response, asked.bids[back], expected)
    if (np.diff(expected) > 0).any():
        yield "ads out of order"
    elif (np.diff(asked.places[back])[np.diff(expected) == 0] < 0).any():
        yield "ties out of the request's order"


def _score_faults(
    asked: Asked, response: pb.RankResponse, bids: NDArray[np.float64], expected: NDArray[np.float64]
) -> Iterator[str]:
    tasks = tuple(scores.task for scores in response.scores)
    if not tasks or (asked.tasks and tasks != asked.tasks):
        yield f"scores for {', '.join(tasks) or 'nothing'}"
        return
    for scores in response.scores:
        probability = np.array(scores.probabilities, np.float64)
        if len(probability) != len(asked):
            yield f"{len(probability)} scores of {scores.task} for {len(asked)} candidates"
            return
        if not ((probability >= 0) & (probability <= 1)).all():
            yield f"scores of {scores.task} that are no probabilities"
            return
    first = np.array(response.scores[0].probabilities, np.float64)
    if not np.isfinite(expected).all():
        yield "expected values that are not finite"
    elif (np.abs(expected - bids * first) > RELATIVE * np.abs(expected) + 1e-12).any():
        yield "expected values that are not bid times probability"


def _ledger_faults(ledger: pb.Ledger) -> Iterator[str]:
    durations = [stage.duration_us for stage in ledger.stages]
    if ledger.budget_us <= 0 or not durations:
        yield "a ledger without budget or stages"
    elif min(durations) < 0 or sum(durations) != ledger.spent_us:
        yield "a ledger that doesn't add up"
