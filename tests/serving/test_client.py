import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from exfm.features.encoding import MISSING
from exfm.features.signature import blocks_of
from exfm.features.values import key_of
from serving.budget.deadline import Deadline
from serving.caller.layout import Columns, Layout, Row
from serving.catalog import Catalog
from serving.client import (
    BlockingRankingClient,
    DeadlinePassedError,
    InvalidRequestError,
    OverloadedError,
    Prepared,
    RankCall,
    RankingClient,
    ServerFailedError,
    Tier,
    UnknownVerticalError,
    UnreachableError,
)
from serving.errors import ServingError
from serving.inference.scorer import Scores
from serving.ladder.tier import Tier as LadderTier
from serving.query import RankQuery
from serving.ranker import Ranker
from serving.rpc.describe import describe

USER = {"user": "u-7", "city": "oslo", "age": 33}
CONTEXT = {"slot": 1, "tab": 2, "hour": 7.5}
ROWS: list[Row] = [{"ad": 11, "genre": 10, "length": 3.0}, {"ad": "eleven", "genre": 20}]


by_call_and_over_streams = pytest.mark.parametrize("streams", [0, 2])


@pytest.fixture
def layout(catalog: Catalog) -> Layout:
    return Layout(describe(catalog["feed_click"], (LadderTier.FULL,), catalog))


def test_rows_and_columns_are_encoded_alike(layout: Layout) -> None:
    columns: Columns = {"ad": [11, "eleven"], "genre": np.array([10, 20]), "length": [3.0, None]}
    block = layout.block("ad", columns, 2)
    assert block == layout.block("ad", ROWS, 2)
    np.testing.assert_array_equal(np.frombuffer(block.ids, "<i8"), [11, 10, key_of("eleven"), 20])
    np.testing.assert_array_equal(np.frombuffer(block.numbers, "<f4"), [3.0, 0.0])


def test_what_is_not_given_is_missing(layout: Layout) -> None:
    block = layout.block("user", [{"age": float("nan")}], 1)
    np.testing.assert_array_equal(np.frombuffer(block.ids, "<i8"), [MISSING, MISSING])
    np.testing.assert_array_equal(np.frombuffer(block.numbers, "<f4"), [0.0])


def test_prepared_bytes_pass_as_they_are(layout: Layout) -> None:
    block = layout.block("ad", Prepared(b"ids", b"numbers"), 2)
    assert (block.ids, block.numbers) == (b"ids", b"numbers")


BAD_FEATURES: dict[str, tuple[Any, str]] = {
    "unknown name": ({"colour": [1, 2]}, "'colour' is no feature of side 'ad'; there are: ad, genre, length"),
    "short column": ({"ad": [1]}, "feature 'ad': 1 values for 2 rows"),
    "a float as id": ({"ad": [1, 2.5]}, "feature 'ad': row 1 is 2.5, neither a string nor an integer"),
    "too large": ({"ad": [1, 2**63]}, "row 1 is 9223372036854775808"),
    "text as number": ({"length": ["long", 1.0]}, "feature 'length'"),
    "infinite": ({"length": [1.0, float("inf")]}, "feature 'length': row 1 is infinite"),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_a_value_that_does_not_fit_is_refused_by_name(layout: Layout, case: str) -> None:
    features, says = BAD_FEATURES[case]
    with pytest.raises(InvalidRequestError, match=says):
        layout.block("ad", features, 2)


@pytest.mark.parametrize("count", [0, 501])
def test_the_number_of_candidates_is_held_before_anything_is_sent(layout: Layout, count: int) -> None:
    call = RankCall("feed_click", ad_ids=np.arange(count), ads={})
    with pytest.raises(InvalidRequestError, match=f"{count} candidates; feed_click takes 1 to 500"):
        call.message(layout)


def _call(**changes: Any) -> RankCall:
    given = {"vertical": "feed_click", "ad_ids": [11, "eleven"], "ads": ROWS, "user": USER, "context": CONTEXT}
    return RankCall(**{**given, "bids": [1.0, 2.0], "request_id": "r-1", **changes})


async def _scores(query: RankQuery, _: Deadline) -> Scores:
    return Scores(np.array([[0.5, 0.1], [0.75, 0.2]], np.float32)[: len(query)], 4)


@by_call_and_over_streams
async def test_a_ranking_comes_back_in_the_callers_own_names(
    running: Callable[..., Any], scripted: Callable[..., Any], streams: int
) -> None:
    async with running(scripted(_scores)) as (address, _), RankingClient(address, streams=streams) as client:
        ranking = await client.rank(_call(), timeout_s=5)
    assert [ad.ad_id for ad in ranking.ads] == ["eleven", 11]
    assert [ad.expected_value for ad in ranking.ads] == [1.5, 0.5]
    assert ranking.ads[0].probability == {"click": 0.75, "like": pytest.approx(0.2)}
    assert (ranking.request_id, ranking.tier, ranking.tier_reason) == ("r-1", Tier.FULL, "")
    assert (ranking.model_version, ranking.unknown_values, ranking.budget_ms) == (3, 4, 200.0)
    assert sum(ranking.stages_ms.values()) == pytest.approx(ranking.spent_ms)


async def test_the_blocking_client_gets_the_same(running: Callable[..., Any], scripted: Callable[..., Any]) -> None:
    def ask(address: str) -> tuple[Any, str]:
        with BlockingRankingClient(address) as client:
            with pytest.raises(UnknownVerticalError) as caught:
                client.rank(_call(vertical="nowhere"))
            return client.rank(_call()), str(caught.value)

    async with running(scripted(_scores)) as (address, _):
        ranking, refusal = await asyncio.to_thread(ask, address)
    assert [ad.ad_id for ad in ranking.ads] == ["eleven", 11]
    assert "served: feed_click" in refusal


REFUSALS: dict[str, tuple[Exception, type[ServingError], str]] = {
    "bad": (InvalidRequestError("row 3"), InvalidRequestError, "row 3"),
    "full": (OverloadedError("full", 25), OverloadedError, "full"),
    "late": (DeadlinePassedError("over"), DeadlinePassedError, "over"),
    "fault": (ZeroDivisionError("secret"), ServerFailedError, "INTERNAL: internal error"),
}


@by_call_and_over_streams
@pytest.mark.parametrize("case", REFUSALS)
async def test_each_status_is_an_error_of_its_own(
    running: Callable[..., Any], scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, case: str, streams: int
) -> None:
    raised, kind, says = REFUSALS[case]

    async def rank(*_: Any) -> None:
        raise raised

    async with running(scripted()) as (address, _), RankingClient(address, streams=streams) as client:
        monkeypatch.setattr(Ranker, "rank", rank)
        with pytest.raises(kind, match=says) as caught:
            await client.rank(_call())
    if isinstance(caught.value, OverloadedError):
        assert caught.value.pushback_ms == 25


async def test_nobody_there_is_unreachable() -> None:
    async with RankingClient("127.0.0.1:1") as client:
        with pytest.raises(UnreachableError):
            await client.rank(_call())


@by_call_and_over_streams
async def test_who_has_gone_is_unreachable(
    running: Callable[..., Any], scripted: Callable[..., Any], streams: int
) -> None:
    async with running(scripted(_scores)) as (address, _):
        client = RankingClient(address, streams=streams)
        await client.rank(_call())
    async with client:
        with pytest.raises(UnreachableError):
            await client.rank(_call(), timeout_s=5)


async def test_a_new_version_makes_the_client_ask_again(
    running: Callable[..., Any], scripted: Callable[..., Any]
) -> None:
    async with running(scripted(_scores)) as (address, _), RankingClient(address) as client:
        before = await client.layout("feed_click")
        before.version = 2
        await client.rank(_call())
        await client.rank(_call())
        assert (await client.layout("feed_click")).version == 3


def test_importing_the_client_brings_no_inference_library() -> None:
    code = "import sys, serving.client; sys.exit(any(m.split('.')[0] in ('tritonclient','torch') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_blocks_have_the_bytes_that_the_description_promises(layout: Layout, catalog: Catalog) -> None:
    message = _call().message(layout)
    for side, block in (("user", message.user), ("context", message.context), ("ad", message.ads)):
        ids, numbers = blocks_of(catalog["feed_click"].schema, side)  # type: ignore[arg-type]  # a Side
        rows = 2 if side == "ad" else 1
        assert (len(block.ids), len(block.numbers)) == (rows * ids.row_bytes, rows * numbers.row_bytes)
