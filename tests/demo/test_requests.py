from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from demo.requests import Request, held_out_requests
from exfm.data.source import Source, open_source


@pytest.fixture(scope="module")
def source(kuairand_parquet: Path) -> Source:
    return open_source(kuairand_parquet)


@pytest.fixture(scope="module")
def requests(source: Source) -> list[Request]:
    rows = source.examples.slice(source.last_day, len(source.examples))
    return list(held_out_requests(rows, source.ads, source.schema, "feed_click", candidates=20, seed=1))


def test_each_user_of_the_rows_asks_once_in_order_of_arrival(source: Source, requests: list[Request]) -> None:
    rows = source.examples.slice(source.last_day, len(source.examples))
    users = [request.user for request in requests]
    assert sorted(users) == sorted(set(rows.user.tolist()))
    first = [int(np.argmax(rows.user == user)) for user in users]
    assert all(before < after for before, after in pairwise(first))


def test_own_exposures_come_first_with_their_outcomes_and_no_ad_twice(source: Source, requests: list[Request]) -> None:
    rows = source.examples.slice(source.last_day, len(source.examples))
    for request in requests:
        mine = rows.take(rows.user == request.user)
        shown = dict(zip(mine.ad.tolist()[::-1], mine.labels["is_click"].tolist()[::-1], strict=True))
        own = request.ads[: len(request.outcomes)].tolist()
        assert len(request.ads) == 20
        assert len(set(request.ads.tolist())) == 20
        assert set(own) == set(shown)
        assert [shown[ad] for ad in own] == request.outcomes.tolist()
        assert not set(request.ads[len(own) :].tolist()) & set(shown)


def test_blocks_have_the_widths_of_the_vertical_and_the_bids_are_positive(
    source: Source, requests: list[Request]
) -> None:
    sub = source.schema.for_vertical("feed_click")
    width = len(sub.side("ad"))
    for request in requests:
        assert request.blocks["ad_ids"].shape[1] + request.blocks["ad_numbers"].shape[1] == width
        assert {len(request.blocks[name]) for name in request.blocks if not name.startswith("ad_")} == {1}
        assert (request.bids > 0).all()


def test_the_seed_decides(source: Source, requests: list[Request]) -> None:
    rows = source.examples.slice(source.last_day, len(source.examples))
    again, other = (
        next(held_out_requests(rows, source.ads, source.schema, "feed_click", candidates=20, seed=seed))
        for seed in (1, 2)
    )
    assert (again.ads == requests[0].ads).all()
    assert (other.bids != requests[0].bids).any()


def test_bids_are_the_logs_where_it_has_any(source: Source) -> None:
    rows = source.examples.slice(source.last_day, len(source.examples))
    rows = replace(rows, bid=(1.5 + np.arange(len(rows)) % 7).astype(np.float32))
    for request in held_out_requests(rows, source.ads, source.schema, "feed_click", candidates=20, seed=1):
        mine = rows.take(rows.user == request.user)
        first = dict(zip(mine.ad.tolist()[::-1], mine.bid.tolist()[::-1], strict=True))
        own = len(request.outcomes)
        assert request.bids[:own].tolist() == [first[ad] for ad in request.ads[:own].tolist()]
        assert np.isin(request.bids, rows.bid).all()
        assert len(request.bids) == len(request.ads)
