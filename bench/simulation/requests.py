"""Simulated requests, and the scores by which each knows its own answer."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from serving.admission.priority import Priority
from serving.catalog import Vertical
from serving.ladder.choice import FEWEST
from serving.ladder.ladder import Answer
from serving.ladder.tier import Tier
from serving.query import RankQuery

SIZES = (20, 100, 200, 500, 2000)
CANARY, CANARY_SCORE = "canary", 0.5
"""The canary's name for its request, and the answer that it knows."""
PRIORS = (0.1, 0.11)
"""What the prior says of every ad, as published and as refreshed; less than any mark."""
_PRIORS = frozenset(map(np.float32, PRIORS))
LITE = "_lite"
"""Ends the name of a vertical's lite model."""


def mark_of(request: str, model: str) -> float:
    """What the model of that name says of each of the request's candidates."""
    return 0.2 + int(request) % 997 / 2000 + 0.25 * model.endswith(LITE)


@cache
def _rows(candidates: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.arange(candidates), np.ones(candidates)


def query_of(number: int, vertical: Vertical, candidates: int, priority: Priority) -> RankQuery:
    """A request without inputs."""
    ads, bids = _rows(candidates)
    return RankQuery(str(number), vertical, {}, ads, bids, priority)


def wrong_with(answer: Answer, query: RankQuery) -> str:
    """What is wrong with an answer, if anything."""
    scores, count = answer.probability, len(query)
    if scores.shape != (count, 1):
        return f"they are {scores.shape} for {count} candidates"
    least, most = scores.min(), scores.max()
    if answer.tier is Tier.PRIOR:
        return "" if least == most and least in _PRIORS else f"{least} to {most}, and the prior says {PRIORS}"
    model = query.vertical.name + LITE if answer.tier is Tier.LITE else query.vertical.name
    mark = np.float32(mark_of(query.request_id, model))
    right = most == mark == least
    if answer.tier is Tier.TRIMMED and least != mark:
        right = most == mark and least in _PRIORS and np.count_nonzero(scores == mark) >= FEWEST
    return "" if right else f"{least} to {most} of tier {answer.tier.name}, and the model says {mark}"
