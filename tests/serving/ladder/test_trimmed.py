from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.catalog import Catalog
from serving.ladder.order import order
from serving.ladder.trimmed import Trimmed, trim, widen
from serving.query import RankQuery
from serving.rpc.codec import decode, parse


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(12).SerializeToString()), catalog["feed_click"])


def test_the_most_promising_are_kept_with_everything_that_is_theirs(query: RankQuery) -> None:
    prior = query.vertical.prior.lookup(query.ads)
    trimmed = trim(query, prior, 5)
    best = np.sort(np.argsort(-query.bids * prior[:, 0], kind="stable")[:5])
    np.testing.assert_array_equal(trimmed.index, best)
    np.testing.assert_array_equal(trimmed.query.ads, query.ads[best])
    np.testing.assert_array_equal(trimmed.query.bids, query.bids[best])
    for name, values in query.inputs.items():
        kept = values if name.startswith("request_") else values[best]
        np.testing.assert_array_equal(trimmed.query.inputs[name], kept)
    assert (trimmed.query.request_id, len(trimmed.query)) == (query.request_id, 5)


def test_a_rest_that_the_prior_puts_behind_keeps_its_probabilities(query: RankQuery) -> None:
    prior = query.vertical.prior.lookup(query.ads)
    trimmed = trim(query, prior, 5)
    scored = np.full((5, 2), 0.9, np.float32)
    wide = widen(trimmed, scored, prior, query.bids)
    rest = np.setdiff1d(np.arange(12), trimmed.index)
    np.testing.assert_array_equal(wide[trimmed.index], scored)
    np.testing.assert_array_equal(wide[rest], prior[rest])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_the_scored_come_first_and_the_rest_in_the_order_of_the_prior(
    query: RankQuery, seed: int, count: int, keep: int, free: bool
) -> None:
    rng, keep = np.random.default_rng(seed), min(keep, count)
    bids = np.ones(count) if free else rng.random(count) + 0.01
    prior = rng.random((count, 2), np.float32)
    index = np.sort(np.argsort(-(bids * prior[:, 0]), kind="stable")[:keep])
    asked = RankQuery("r", query.vertical, {}, query.ads[:1].repeat(keep), bids[index])
    # Anywhere between a thousandth and one: often below what the prior says of the rest.
    scored = (10 ** rng.uniform(-3, 0, (keep, 2))).astype(np.float32)
    wide = widen(Trimmed(asked, index), scored, prior, bids)
    ranked = order(bids, wide).index
    assert set(ranked[:keep]) == set(index)
    by_prior = order(bids, prior).index
    np.testing.assert_array_equal(ranked[keep:], [place for place in by_prior if place not in set(index)])
    np.testing.assert_array_equal(wide[index], scored)
    assert ((wide >= 0) & (wide <= 1)).all()
