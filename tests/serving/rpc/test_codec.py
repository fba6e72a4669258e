import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.admission.priority import Priority
from serving.budget.ledger import Ledger
from serving.catalog import Catalog, Vertical
from serving.errors import InvalidRequestError
from serving.ladder.ladder import Answer
from serving.ladder.order import order
from serving.ladder.tier import Reason, Tier
from serving.query import RankQuery
from serving.rpc.codec import decode, encode, enter, parse, request_bytes, request_limit
from serving.rpc.describe import describe
from serving.rpc.pb import ranking_pb2 as pb
from tests.serving.bad_requests import BAD

Make = Callable[..., pb.RankRequest]


@pytest.fixture
def vertical(catalog: Catalog) -> Vertical:
    return catalog["feed_click"]


def test_blocks_become_tensors_in_the_order_of_the_signature(vertical: Vertical, make_message: Make) -> None:
    message = make_message(4)
    query = decode(parse(message.SerializeToString()), vertical)
    user, context = (np.frombuffer(part.ids, "<i8") for part in (message.user, message.context))
    np.testing.assert_array_equal(query.inputs["request_ids"], [[*user, *context]])
    assert query.inputs["request_numbers"].shape == (1, 2)
    assert query.inputs["candidate_ids"].tobytes() == message.ads.ids
    assert query.inputs["candidate_numbers"].shape == (4, 1)
    assert query.ads.tolist() == [100, 101, 102, 103]
    np.testing.assert_array_equal(query.bids, message.bids)
    assert len(query) == 4


def test_the_candidates_are_not_copied_once_they_are_bytes(vertical: Vertical, make_message: Make) -> None:
    values = decode(parse(make_message(4).SerializeToString()), vertical).inputs["candidate_ids"]
    assert not values.flags.owndata
    assert not values.flags.writeable


def test_without_bids_every_bid_is_1(vertical: Vertical, make_message: Make) -> None:
    message = make_message(3)
    del message.bids[:]
    assert decode(parse(message.SerializeToString()), vertical).bids.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_by_name(vertical: Vertical, make_message: Make, case: str) -> None:
    change, says = BAD[case]
    message = make_message(5)
    change(message)
    with pytest.raises(InvalidRequestError, match=says):
        decode(parse(message.SerializeToString()), vertical)


def test_the_most_candidates_fit(vertical: Vertical, make_message: Make, catalog: Catalog) -> None:
    message = make_message(vertical.max_candidates)
    assert len(decode(parse(message.SerializeToString()), vertical)) == vertical.max_candidates
    assert message.ByteSize() <= request_bytes(vertical) < request_limit(catalog)


@pytest.mark.parametrize(("candidates", "limit"), [(500, 4 << 20), (60_000, None), (10**6, 64 << 20)])
def test_the_limit_leaves_room_to_say_what_is_wrong(vertical: Vertical, candidates: int, limit: int | None) -> None:
    big = replace(vertical, max_candidates=candidates)
    assert request_limit(Catalog({"feed_click": big})) == (limit or 4 * request_bytes(big))


def _decoded(catalog: Catalog, payload: bytes) -> RankQuery | None:
    try:
        return decode(parse(payload), catalog["feed_click"])
    except InvalidRequestError:
        return None


@given(payload=st.binary(max_size=300))
def test_any_bytes_are_a_query_or_an_invalid_request(catalog: Catalog, payload: bytes) -> None:
    _decoded(catalog, payload)


@given(data=st.data())
def test_a_damaged_request_is_a_query_or_an_invalid_request(
    catalog: Catalog, make_message: Make, data: st.DataObject
) -> None:
    payload = bytearray(make_message(3).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    query = _decoded(catalog, bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    if query is not None:
        assert np.isfinite(query.inputs["candidate_numbers"]).all()
        assert np.isfinite(query.bids).all()


@given(candidates=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_a_ranking_survives_the_wire(catalog: Catalog, make_message: Make, candidates: int, seed: int) -> None:
    query = decode(parse(make_message(candidates, seed=seed).SerializeToString()), catalog["feed_click"])
    probability = np.random.default_rng(seed).random((candidates, 2)).astype(np.float32)
    ordered = order(query.bids, probability)
    answer = Answer(probability, Tier.PRIOR, Reason.NO_TIME, 7)
    response = pb.RankResponse.FromString(encode(query, answer, ordered).SerializeToString())
    assert np.array(response.ad_ids).tolist() == query.ads[ordered.index].tolist()
    np.testing.assert_array_equal(response.expected_values, ordered.expected)
    for column, scores in enumerate(response.scores):
        assert scores.task == query.vertical.tasks[column]
        np.testing.assert_array_equal(np.array(scores.probabilities, np.float32), probability[ordered.index, column])
    assert (response.tier, response.tier_reason, response.unknown_values) == (pb.TIER_PRIOR, "no_time", 7)
    assert (response.model.name, response.model.version) == ("feed_click", 3)


def test_the_ledger_sums_exactly_on_the_wire(clock: Any) -> None:
    ledger, response = Ledger(clock(), clock), pb.RankResponse()
    for name in ("decode", "score", "order"):
        clock.now_s += 0.0012345678
        ledger.close(name)
    enter(response, ledger, 0.025)
    assert response.ledger.budget_us == 25_000
    assert response.ledger.spent_us == sum(stage.duration_us for stage in response.ledger.stages)
    assert [stage.name for stage in response.ledger.stages] == ["decode", "score", "order"]


def test_the_description_says_all_that_a_caller_needs(vertical: Vertical) -> None:
    said = describe(vertical, (Tier.FULL, Tier.PRIOR), ["b", "a"])
    assert list(said.verticals) == ["a", "b"]
    assert (said.vertical, list(said.tasks), said.budget_ms) == ("feed_click", ["click", "like"], 200.0)
    assert said.max_candidates == 500
    assert [(block.side, block.kind, block.row_bytes) for block in said.blocks] == [
        ("user", "ids", 16),
        ("user", "numbers", 4),
        ("context", "ids", 16),
        ("context", "numbers", 4),
        ("ad", "ids", 16),
        ("ad", "numbers", 4),
    ]
    assert [column.name for column in said.blocks[0].columns] == ["user", "city"]
    assert said.blocks[0].columns[1].vocabulary_size == 3
    assert said.schema_hash == vertical.schema.digest
    assert vertical.schema.from_dict(json.loads(said.schema_json)) == vertical.schema
    assert list(said.tiers) == [pb.TIER_FULL, pb.TIER_PRIOR]


@pytest.mark.parametrize(("number", "priority"), list(enumerate((Priority.LIVE, *Priority))))
def test_the_priority_is_read_and_live_by_default(
    catalog: Catalog, make_message: Callable[..., Any], number: int, priority: Priority
) -> None:
    message = make_message(3)
    message.priority = number
    assert decode(parse(message.SerializeToString()), catalog["feed_click"]).priority is priority


def test_an_unknown_priority_is_refused(catalog: Catalog, make_message: Callable[..., Any]) -> None:
    message = make_message(3)
    message.priority = 9
    with pytest.raises(InvalidRequestError, match="priority is 9; known are 0 to 3"):
        decode(parse(message.SerializeToString()), catalog["feed_click"])
