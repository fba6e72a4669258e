"""Whether an answer is one: complete, finite, in order, of a tier that the server has, its ledger adding up.

Fast isn't enough.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import of_tier
from loadtest.workload.asked import Asked
from serving.rpc.pb import ranking_pb2 as pb

RELATIVE = 1e-5
"""Expected values may differ so much from bid times probability: products may be rounded in single precision."""


STAGES = ("wait", "decode", "history", "score", "order", "encode")
"""Of a ledger, in their order; a server may lack some."""
WAIT = "wait"
"""The stage that the server doesn't measure but estimates: gRPC doesn't tell when a request came in."""
SLACK_US = 1000
"""So much more than the caller waited may stand in a ledger: stages are rounded, and two machines' clocks run apart."""


def fault_of(asked: Asked, response: pb.RankResponse, waited_s: float | None = None) -> str:
    """What is wrong with an answer, in a few words without the request's own values; empty for a sound one.

    Args:
        asked: the request.
        response: its answer.
        waited_s: from sending it to having the answer; None if that is not known.
    """
    return next(_faults(asked, response, waited_s), "")


def tier_of(response: pb.RankResponse) -> str:
    """The tier's name; empty for one that the contract doesn't know."""
    return of_tier(response.tier) or ""


def _faults(asked: Asked, response: pb.RankResponse, waited_s: float | None) -> Iterator[str]:
    if response.request_id != asked.request_id:
        yield "another request's id"
    tier = tier_of(response)
    if not tier:
        yield "no known tier"
    elif asked.tiers and tier not in asked.tiers:
        yield f"tier {tier}, which the server doesn't say that it has"
    yield from _ranking_faults(asked, response)
    yield from _ledger_faults(response.ledger, waited_s)


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


def _ledger_faults(ledger: pb.Ledger, waited_s: float | None) -> Iterator[str]:
    durations = [stage.duration_us for stage in ledger.stages]
    if ledger.budget_us <= 0 or not durations:
        yield "a ledger without budget or stages"
        return
    if min(durations) < 0 or sum(durations) != ledger.spent_us:
        yield "a ledger that doesn't add up"
    names = [stage.name for stage in ledger.stages]
    if names != [name for name in STAGES if name in names]:
        yield "a ledger of other stages, or in another order"
    # The estimated wait may honestly be longer than the whole: who came late to a stall is charged all of it.
    measured_us = sum(stage.duration_us for stage in ledger.stages if stage.name != WAIT)
    if waited_s is not None and measured_us > waited_s * 1e6 + SLACK_US:
        yield "a ledger of more time than the caller waited"
