from pathlib import Path

import numpy as np
import pytest

from bench.overload.messages import load_pools, make_pools, save_pools
from serving.catalog import Catalog
from serving.repository import load_catalog
from serving.rpc.codec import decode, parse


@pytest.fixture(scope="module")
def catalog(published_repository: Path) -> Catalog:
    return load_catalog(published_repository)


@pytest.mark.parametrize("name", ["feed_click", "feed_long_view"])
def test_every_message_is_sound_to_the_server(catalog: Catalog, name: str) -> None:
    vertical = catalog[name]
    pools = make_pools(vertical, (1, 30), each=3, seed=0)
    for size, messages in pools.items():
        assert len(set(messages)) == 3
        for message in messages:
            query = decode(parse(message), vertical)
            assert len(query) == size
            assert len(np.unique(query.ads)) == size


def test_known_ads_are_among_the_candidates(catalog: Catalog) -> None:
    vertical = catalog["feed_click"]
    query = decode(parse(make_pools(vertical, (30,), 1, seed=0)[30][0]), vertical)
    assert np.isin(vertical.prior.ads, query.ads).all()


def test_pools_survive_their_file(catalog: Catalog, tmp_path: Path) -> None:
    pools = make_pools(catalog["feed_click"], (2, 7), each=4, seed=1)
    save_pools(tmp_path / "pools.npz", pools)
    assert load_pools(tmp_path / "pools.npz") == pools
