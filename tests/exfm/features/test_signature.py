import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.schema import SIDES, Feature, HistorySpec, Schema, Vertical
from exfm.features.signature import DTYPES, blocks_of, tensors_of

VERTICAL = Vertical("feed", ("click",))
AD = Feature("ad_id", "ad", "id", buckets=10)


@given(st.data())
def test_blocks_hold_each_feature_once_in_encoding_order(
    schemas: st.SearchStrategy[Schema], data: st.DataObject
) -> None:
    schema = data.draw(schemas)
    for side in SIDES:
        ids, numbers = blocks_of(schema, side)
        assert (ids.name, numbers.name) == (f"{side}_ids", f"{side}_numbers")
        assert (*ids.features, *numbers.features) == schema.side(side)
        assert all(feature.kind != "number" for feature in ids.features)
        assert all(feature.kind == "number" for feature in numbers.features)


@given(st.data())
def test_tensors_hold_every_feature_and_none_is_empty(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    tensors = tensors_of(schema)
    assert all(tensor.width > 0 for tensor in tensors)
    assert sum(tensor.width for tensor in tensors) == len(schema.features)
    assert all(block.kind == tensor.kind for tensor in tensors for block in tensor.blocks)


def test_request_is_user_then_context() -> None:
    features = (
        Feature("hour", "context", "category", vocabulary=(1,)),
        Feature("who", "user", "id", buckets=4),
        Feature("age", "user", "number"),
        AD,
    )
    request_ids, request_numbers, candidate_ids = tensors_of(Schema("s", features, (VERTICAL,)))
    assert [feature.name for block in request_ids.blocks for feature in block.features] == ["who", "hour"]
    assert [feature.name for block in request_numbers.blocks for feature in block.features] == ["age"]
    assert (candidate_ids.name, candidate_ids.width, candidate_ids.kind) == ("candidate_ids", 1, "ids")


def test_wire_types_are_little_endian() -> None:
    assert (DTYPES["ids"], DTYPES["numbers"]) == (np.dtype("<i8"), np.dtype("<f4"))
    ids, numbers = blocks_of(Schema("s", (AD, Feature("p", "ad", "number")), (VERTICAL,)), "ad")
    assert (ids.dtype, ids.row_bytes) == (np.int64, 8)
    assert (numbers.dtype, numbers.row_bytes) == (np.float32, 4)


def test_a_history_is_one_more_float_tensor_of_the_request() -> None:
    features = (Feature("who", "user", "id", buckets=4), AD)
    plain = Schema("s", features, (VERTICAL,))
    tensors = tensors_of(Schema("s", features, (VERTICAL,), history=HistorySpec(5, 3)))
    assert [tensor.name for tensor in tensors] == ["request_ids", "request_history", "candidate_ids"]
    assert (tensors[1].kind, tensors[1].width, tensors[1].blocks) == ("numbers", 25, ())
    assert [tensor.per_candidate for tensor in tensors] == [False, False, True]
    assert tuple(tensor for tensor in tensors if tensor.blocks) == tensors_of(plain)
