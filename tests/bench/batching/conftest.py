"""Queries without a published model, for what only asks for their size and deadline."""

from collections.abc import Callable

import numpy as np
import pytest

from exfm.features.schema import Schema
from serving.catalog import Golden, Vertical
from serving.ladder.prior import Prior
from serving.query import RankQuery
from tests.conftest import MakeRequest

MakeQuery = Callable[..., RankQuery]


@pytest.fixture
def make_query(tiny_schema: Schema, make_request: MakeRequest) -> MakeQuery:
    """`make_query(candidates, seed=0)`: one of the `feed_click` vertical."""
    schema = tiny_schema.for_vertical("feed_click")
    probability = np.full((1, len(schema.tasks)), 0.1, np.float32)
    prior = Prior(np.array([1], np.int64), probability, probability[0])
    vertical = Vertical("feed_click", 1, schema, 0.25, 500, prior, Golden({}, probability, 1e-4))

    def make(candidates: int, seed: int = 0) -> RankQuery:
        inputs = make_request(schema, candidates, seed)
        return RankQuery(str(seed), vertical, inputs, np.arange(candidates), np.ones(candidates))

    return make
