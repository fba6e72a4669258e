"""What is logged of an answer: the shown ads, with the bytes that the model saw."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exfm.events.ids import impression_key
from exfm.features.encoding import MISSING
from exfm.features.schema import Columns, Schema
from serving.admission.priority import Priority
from serving.catalog import Catalog, Vertical
from serving.impressions.capture import Capture
from serving.ladder.ladder import Answer
from serving.ladder.order import order
from serving.ladder.tier import Reason, Tier
from serving.query import RankQuery
from serving.rpc.codec import decode, parse
from serving.rpc.pb import ranking_pb2 as pb

Make = Callable[..., pb.RankRequest]


def answered(catalog: Catalog, message: pb.RankRequest) -> tuple[RankQuery, Answer, Any]:
    query = decode(parse(message.SerializeToString()), catalog[message.vertical])
    probability = np.random.default_rng(1).random((len(query), len(query.vertical.tasks))).astype(np.float32)
    return query, Answer(probability, Tier.TRIMMED, Reason.WORK_AHEAD), order(query.bids, probability)


@pytest.mark.parametrize("vertical", ["feed_click", "feed_long_view"])
def test_the_blocks_are_those_of_the_request(catalog: Catalog, make_message: Make, vertical: str) -> None:
    message = make_message(6, vertical)
    query, answer, ranked = answered(catalog, message)
    query = replace(query, history=b"packed")
    rows = Capture(catalog[vertical], shown=3, clock=lambda: 123).rows(query, answer, ranked)
    assert [row.place for row in rows] == [0, 1, 2]
    for row, index in zip(rows, ranked.index, strict=False):
        widths = {name: len(getattr(message.ads, name)) // 6 for name in ("ids", "numbers")}
        assert (row.user_ids, row.user_numbers) == (message.user.ids, message.user.numbers)
        assert (row.context_ids, row.context_numbers) == (message.context.ids, message.context.numbers)
        assert row.ad_ids == message.ads.ids[index * widths["ids"] :][: widths["ids"]]
        assert row.ad_numbers == message.ads.numbers[index * widths["numbers"] :][: widths["numbers"]]
        assert row.ad == message.ad_ids[index]
        assert row.key == impression_key(vertical, message.request_id, row.ad)
        assert row.bid == message.bids[index]
        np.testing.assert_array_equal(np.frombuffer(row.probability, "<f4"), answer.probability[index])
        assert (row.tier, row.reason, row.time_ms, row.history) == ("trimmed", "work_ahead", 123, b"packed")
        assert (row.vertical, row.version, row.schema_hash) == (vertical, 3, catalog[vertical].schema.digest)


def test_a_history_keeps_its_instant_and_a_lite_answer_its_models_version(catalog: Catalog, make_message: Make) -> None:
    query, answer, ranked = answered(catalog, make_message(2))
    lite = replace(answer, tier=Tier.LITE, model=replace(catalog["feed_click"], version=9))
    (row,) = Capture(catalog["feed_click"]).rows(replace(query, asked_ms=77), lite, ranked)
    assert (row.time_ms, row.tier, row.version) == (77, "lite", 9)


def test_only_as_many_as_there_are_and_none_for_shadows(catalog: Catalog, make_message: Make) -> None:
    query, answer, ranked = answered(catalog, make_message(2))
    capture = Capture(catalog["feed_click"], shown=5)
    assert len(capture.rows(query, answer, ranked)) == 2
    assert capture.rows(replace(query, priority=Priority.SHADOW), answer, ranked) == []


def test_the_user_is_the_id_that_reads_the_logs_user_column(
    catalog: Catalog, make_message: Make, tiny_schema: Schema
) -> None:
    query, answer, ranked = answered(catalog, make_message())
    bare = catalog["feed_click"]
    assert Capture(bare).rows(query, answer, ranked)[0].user == MISSING  # no feature reads `user_id`
    named: Vertical = replace(bare, schema=replace(bare.schema, columns=Columns(user="user")))
    expected = int(query.inputs["request_ids"][0, 0])
    assert Capture(named).rows(replace(query, vertical=named), answer, ranked)[0].user == expected
    category: Vertical = replace(bare, schema=replace(tiny_schema, columns=Columns(user="city")))
    assert category.user_column is None  # not an id


def test_behind_those_that_trimmed_scored_it_is_the_priors(catalog: Catalog, make_message: Make) -> None:
    query, answer, ranked = answered(catalog, make_message(6))
    scored = np.sort(ranked.index[:4])
    capture = Capture(catalog["feed_click"], shown=6)
    rows = capture.rows(replace(query, history=b"packed"), replace(answer, scored=scored), ranked)
    assert [(row.tier, row.history) for row in rows] == [("trimmed", b"packed")] * 4 + [("prior", b"")] * 2
    assert {row.reason for row in rows} == {"work_ahead"}


def test_where_no_model_answered_none_saw_the_history(catalog: Catalog, make_message: Make) -> None:
    query, answer, ranked = answered(catalog, make_message(2))
    asked, capture = replace(query, history=b"packed", asked_ms=77), Capture(catalog["feed_click"])
    seen = {tier: capture.rows(asked, replace(answer, tier=tier), ranked)[0].history for tier in Tier}
    assert seen == {**dict.fromkeys(Tier, b"packed"), Tier.PRIOR: b""}
