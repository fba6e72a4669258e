"""Random schemas with every kind of feature on every side."""

import pytest
from hypothesis import strategies as st

from exfm.features.schema import SIDES, Columns, Feature, Schema, Vertical

NAMES = st.text(min_size=1, max_size=6)


def _features(name: str) -> st.SearchStrategy[Feature]:
    side = st.sampled_from(SIDES)
    ids = st.builds(Feature, st.just(name), side, st.just("id"), buckets=st.integers(2, 1000))
    integers = st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=8, unique=True).map(tuple)
    texts = st.lists(st.text(max_size=5), min_size=1, max_size=8, unique=True).map(tuple)
    categories = st.builds(Feature, st.just(name), side, st.just("category"), vocabulary=st.one_of(integers, texts))
    cuts = st.lists(st.floats(-1e6, 1e6, width=32), max_size=8, unique=True).map(lambda values: tuple(sorted(values)))
    numbers = st.builds(
        Feature, st.just(name), side, st.just("number"), boundaries=cuts, default=st.floats(-100, 100, width=32)
    )
    return st.one_of(ids, categories, numbers)


@st.composite
def _schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    features = tuple(draw(_features(f"f_{name}")) for name in names)
    features += (Feature("ad key", "ad", "id", buckets=draw(st.integers(2, 100))),)
    kept = tuple(f.name for f in features if f.name == "ad key" or draw(st.booleans()))
    tasks = st.lists(st.sampled_from(["click", "buy", "view"]), min_size=1, unique=True).map(tuple)
    verticals = (
        Vertical("one", draw(tasks), draw(st.floats(0.1, 1e4)), draw(st.integers(1, 5000))),
        Vertical("two", draw(tasks), features=kept),
    )
    return Schema(draw(NAMES), features, verticals, draw(st.builds(Columns, bid=st.sampled_from(["", "bid"]))))


@pytest.fixture(scope="session")
def schemas() -> st.SearchStrategy[Schema]:
    """Draw from it with `data.draw(schemas)`."""
    return _schemas()
