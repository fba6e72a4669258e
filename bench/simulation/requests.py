"""Simulated requests, and the scores by which each knows its own answer, ad by ad."""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from serving.admission.priority import Priority
from serving.catalog import Vertical
from serving.ladder.choice import FEWEST
from serving.ladder.ladder import Answer
from serving.ladder.prior import Prior
from serving.ladder.tier import Tier
from serving.query import RankQuery

SIZES = (20, 100, 200, 500, 2000)
CANARY, CANARY_SCORE = "canary", 0.5
"""The canary's name for its request, and the answer that it knows."""
LITE = "_lite"
"""Ends the name of a vertical's lite model."""
ADS = 3000
"""Keys that ads have; every tenth of them no prior knows."""
EDITIONS = (0, 1)
"""Of a prior: as published and as refreshed."""
_VARIANTS = 3
_UNKNOWN = np.float32(0.08)
_CLOSE = 1e-5


def marks_of(request: str, model: str, ads: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 [N]: what the model of that name says of ads int64 [N] in that request, from 0.2 to 1."""
    mark = 0.2 + int(request) % 997 / 2000 + 0.25 * model.endswith(LITE)
    return (mark + 1e-5 * ads).astype(np.float32)


@cache
def prior_of(vertical: str, edition: int) -> Prior:
    """That edition of that vertical's prior, which says something else of nearly every ad, less than any mark."""
    known = np.flatnonzero(np.arange(ADS) % 10)
    return Prior(known, _said_of(known, vertical, edition)[:, None], np.full(1, _UNKNOWN))


def query_of(number: int, vertical: Vertical, candidates: int, priority: Priority) -> RankQuery:
    """A request without inputs."""
    ads, bids = _rows(candidates, number % _VARIANTS)
    return RankQuery(str(number), vertical, {}, ads, bids, priority)


def wrong_with(answer: Answer, query: RankQuery) -> str:
    """What is wrong with an answer, if anything."""
    if answer.probability.shape != (len(query), 1):
        return f"they are {answer.probability.shape} for {len(query)} candidates"
    said, name = answer.probability[:, 0], query.vertical.name
    if answer.tier is Tier.PRIOR:
        right = any(np.array_equal(said, prior) for prior, _ in _priors(query))
        return "" if right else f"{said.min()} to {said.max()} is not what the prior says of these ads"
    model = name + LITE if answer.tier is Tier.LITE else name
    marks = marks_of(query.request_id, model, query.ads)
    if np.array_equal(said, marks):
        return ""
    trimmed = answer.tier is Tier.TRIMMED and answer.scored is not None
    if trimmed and any(_is_trimmed(answer, query, marks, *known) for known in _priors(query)):
        return ""
    return f"{said.min()} to {said.max()} of tier {answer.tier.name}, and the model says {marks.min()} to {marks.max()}"


def _is_trimmed(
    answer: Answer,
    query: RankQuery,
    marks: NDArray[np.float32],
    prior: NDArray[np.float32],
    promising: NDArray[np.int64],
) -> bool:
    """Whether the model scored the most promising ones, and the rest stands behind them in the prior's order."""
    said, scored = answer.probability[:, 0], answer.scored
    if scored is None or not min(FEWEST, len(query)) <= len(scored) < len(query):
        return False
    rest = promising[len(scored) :]
    shrunk = said[rest] / prior[rest]
    return bool(
        np.array_equal(scored, np.sort(promising[: len(scored)]))
        and np.array_equal(said[scored], marks[scored])
        and shrunk.max() - shrunk.min() < _CLOSE
        and shrunk.max() < 1 + _CLOSE
        and (query.bids * said)[rest].max() <= (query.bids * said)[scored].min() * (1 + _CLOSE)
    )


def _said_of(ads: NDArray[np.int64], vertical: str, edition: int) -> NDArray[np.float32]:
    """What that edition says of ads, known or not."""
    said = 0.05 + (ads * 7919 + sum(vertical.encode()) * 31 + edition * 17) % 1009 / 2e4
    return np.where(ads % 10, said, _UNKNOWN).astype(np.float32)


def _priors(query: RankQuery) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """By edition what the prior says of a request's ads, and their places, the most promising first."""
    for edition in EDITIONS:
        yield _known(len(query), int(query.request_id) % _VARIANTS, query.vertical.name, edition)


@cache
def _known(candidates: int, variant: int, vertical: str, edition: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ads, bids = _rows(candidates, variant)
    prior = _said_of(ads, vertical, edition)
    return prior, np.argsort(-(bids * prior), kind="stable")


@cache
def _rows(candidates: int, variant: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ads and their bids, some of which are equal; of all requests of that size and variant, so not to be changed."""
    draw = np.random.default_rng((candidates, variant))
    ads, bids = draw.permutation(ADS)[:candidates], draw.integers(4, 64, candidates) / 16
    ads.flags.writeable = bids.flags.writeable = False
    return ads, bids
