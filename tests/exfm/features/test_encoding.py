from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from exfm.features.encoding import FEW, MISSING, Encoder, SidesEncoder
from exfm.features.schema import SIDES, Feature, Schema, Side, Vertical
from exfm.features.signature import blocks_of
from exfm.features.slots import MOST_VALUES
from exfm.features.values import key_of, seed_of, splitmix64

VERTICAL = Vertical("feed", ("click",))
CITY = Feature("city", "ad", "category", vocabulary=("oslo", "rome", "bern"))
CODE = Feature("code", "ad", "category", vocabulary=(7, -3))
HASHED = Feature("key", "ad", "id", buckets=5)
PRICE = Feature("price", "ad", "number", boundaries=(1.0, 2.5))


def schema_of(*features: Feature) -> Schema:
    return Schema("s", features, (VERTICAL,))


def encode_one(feature: Feature, values: list[int]) -> tuple[list[int], int]:
    ids = np.array(values, np.int64)[:, None]
    encoded = Encoder(schema_of(feature)).encode("ad", ids, np.empty((len(ids), 0), np.float32))
    return encoded.rows[:, 0].tolist(), encoded.unknown


def draw_blocks(data: st.DataObject, schema: Schema, *sides: Side) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of some sides joined; at times more rows than are encoded one by one."""
    ids, numbers = ([f for side in sides for f in blocks_of(schema, side)[kind].features] for kind in (0, 1))
    known = [key_of(value) for feature in ids for value in feature.vocabulary]
    cuts = [float(np.float32(cut)) for feature in numbers for cut in feature.boundaries]
    value = st.one_of(st.integers(-(2**63), 2**63 - 1), st.just(int(MISSING)), st.sampled_from(known or [0]))
    number = st.one_of(st.floats(-1e7, 1e7, width=32), st.sampled_from([*cuts, 0.0, -0.0]))
    count = data.draw(st.integers(0, FEW + 3))
    return (
        data.draw(hnp.arrays(np.int64, (count, len(ids)), elements=value)),
        data.draw(hnp.arrays(np.float32, (count, len(numbers)), elements=number)),
    )


def defined_row(feature: Feature, value: Any) -> int:
    """Of a raw value, within its feature, from what its kind means."""
    if feature.kind == "number":
        return sum(bool(np.float32(cut) <= value) for cut in feature.boundaries)
    if value == MISSING:
        return 0
    if feature.kind == "category":
        keys = [key_of(known) for known in feature.vocabulary]
        return keys.index(value) + 1 if value in keys else 0
    hashed = splitmix64(np.array([value], np.int64).view(np.uint64) ^ seed_of(feature.name))
    return int(hashed[0]) % (feature.buckets - 1) + 1


@given(st.data())
def test_every_value_gets_the_row_that_its_kind_means(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema, start = data.draw(schemas), 0
    encoder = Encoder(schema)
    for side in SIDES:
        ids, numbers = draw_blocks(data, schema, side)
        encoded, unknown = encoder.encode(side, ids, numbers), 0
        assert encoded.rows.shape == (len(ids), len(schema.side(side)))
        assert encoded.rows.flags.c_contiguous
        for index, feature in enumerate(schema.side(side)):
            values = ids[:, index] if index < ids.shape[1] else numbers[:, index - ids.shape[1]]
            rows = [defined_row(feature, value) for value in values]
            assert (encoded.rows[:, index] - start).tolist() == rows
            if feature.kind == "category":
                unknown += sum(row == 0 and v != MISSING for row, v in zip(rows, values, strict=True))
            start += feature.rows
        assert encoded.unknown == unknown


@given(st.data())
def test_sides_together_are_the_sides_alone(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    choices: list[tuple[Side, ...]] = [("user", "context"), ("ad",), SIDES]
    sides = data.draw(st.sampled_from(choices))
    ids, numbers = draw_blocks(data, schema, *sides)
    encoder = SidesEncoder(schema, sides)
    together = encoder.encode(ids, numbers)
    widths = np.array([[block.width for block in blocks_of(schema, side)] for side in sides])
    cuts = widths.cumsum(axis=0)[:-1]
    parts = zip(sides, np.split(ids, cuts[:, 0], 1), np.split(numbers, cuts[:, 1], 1), strict=True)
    alone = [Encoder(schema).encode(side, its_ids, its_numbers) for side, its_ids, its_numbers in parts]
    assert np.array_equal(together.rows, np.concatenate([encoded.rows for encoded in alone], 1))
    assert together.unknown == sum(encoded.unknown for encoded in alone)
    per_row = [encoder.encode(ids[row : row + 1], numbers[row : row + 1]).unknown for row in range(len(ids))]
    assert encoder.unknown_per_row(ids, together.rows).tolist() == per_row


def test_numbers_that_are_none_lie_above_all_cuts_in_any_company() -> None:
    """Whoever breaks the rule that numbers are finite gets rows in range."""
    numbers = np.array([[np.nan], [-np.nan], [np.inf], [-np.inf]], np.float32)
    encoder, none = Encoder(schema_of(PRICE)), np.empty((4, 0), np.int64)
    many = encoder.encode("ad", np.repeat(none, FEW, axis=0), np.repeat(numbers, FEW, axis=0)).rows
    assert many[::FEW, 0].tolist() == [2, 2, 2, 0]
    for row in range(4):
        assert encoder.encode("ad", none[:1], numbers[row : row + 1]).rows.tolist() == [[many[row * FEW, 0]]]


def test_vocabularies_of_all_sizes_share_a_side() -> None:
    """Some have slots, some are searched, with an id in between: columns that stand side by side for neither."""
    large = tuple(range(-(2**62), 2**62, 2**50 + 1))[: MOST_VALUES + 500]
    searched = replace(CITY, name="large", vocabulary=large), replace(CITY, name="text", vocabulary=(*map(str, large),))
    schema = schema_of(CITY, searched[0], HASHED, CODE, replace(CODE, name="again"), PRICE, searched[1])
    mine, random = schema.side("ad"), np.random.default_rng(0)
    codes = [{key_of(v): code for code, v in enumerate([*feature.vocabulary], 1)} for feature in mine]
    known = np.array([key for code in codes for key in code] + [int(MISSING), 5])
    ids = random.choice(known, (3000, 6))
    numbers = random.choice(np.array([0, 1, 2.5, 3], np.float32), (3000, 1))
    encoder, starts = Encoder(schema), np.cumsum([0, *(feature.rows for feature in mine)])[:-1]
    encoded = encoder.encode("ad", ids, numbers)
    for index, (feature, start) in enumerate(zip(mine, starts, strict=True)):
        values = ids[:, index] if index < 6 else numbers[:, 0]
        is_category = feature.kind == "category"
        rows = [codes[index].get(value, 0) if is_category else defined_row(feature, value) for value in values]
        assert (encoded.rows[:, index] - start).tolist() == rows
    singles = [encoder.encode("ad", ids[row : row + 1], numbers[row : row + 1]) for row in range(300)]
    assert np.array_equal(np.concatenate([single.rows for single in singles]), encoded.rows[:300])
    assert sum(single.unknown for single in singles) == encoder.encode("ad", ids[:300], numbers[:300]).unknown > 0


@given(st.data())
def test_rows_lie_in_each_features_own_range(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    encoder = Encoder(schema)
    start = 0
    for side in SIDES:
        rows = encoder.encode(side, *draw_blocks(data, schema, side)).rows
        assert rows.dtype == np.int64
        for index, feature in enumerate(schema.side(side)):
            assert (rows[:, index] >= start).all()
            assert (rows[:, index] < start + feature.rows).all()
            start += feature.rows
    assert start == schema.rows


@given(st.data())
def test_chunk_by_chunk_is_the_whole(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    side = data.draw(st.sampled_from(SIDES))
    ids, numbers = draw_blocks(data, schema, side)
    cut = data.draw(st.integers(0, len(ids)))
    encoder = Encoder(schema)
    whole, head, tail = (encoder.encode(side, ids[s], numbers[s]) for s in (slice(None), slice(cut), slice(cut, None)))
    assert np.array_equal(whole.rows, np.concatenate([head.rows, tail.rows]))
    assert whole.unknown == head.unknown + tail.unknown


@given(st.data())
def test_a_features_codes_do_not_depend_on_its_neighbours(
    schemas: st.SearchStrategy[Schema], data: st.DataObject
) -> None:
    schema = data.draw(schemas)
    ids, numbers = draw_blocks(data, schema, "ad")
    rows = Encoder(schema).encode("ad", ids, numbers).rows
    start = sum(feature.rows for side in SIDES[:-1] for feature in schema.side(side))
    for index, feature in enumerate(schema.side("ad")):
        column = slice(index, index + 1)
        is_number = feature.kind == "number"
        own_ids = ids[:, :0] if is_number else ids[:, column]
        own_numbers = numbers[:, index - ids.shape[1] :][:, :1] if is_number else numbers[:, :0]
        alone = Encoder(schema_of(feature)).encode("ad", own_ids, own_numbers).rows
        assert np.array_equal(alone[:, 0] + start, rows[:, index])
        start += feature.rows


@given(st.permutations(range(6)))
def test_permuting_the_vocabulary_permutes_the_rows(order: list[int]) -> None:
    names = ("a", "b", "c", "d", "e", "f")
    feature = replace(CITY, vocabulary=names)
    shuffled = replace(CITY, vocabulary=tuple(names[index] for index in order))
    values = [*(key_of(name) for name in names), key_of("g"), int(MISSING)]
    rows, unknown = encode_one(feature, values)
    assert (rows, unknown) == ([1, 2, 3, 4, 5, 6, 0, 0], 1)
    again, still_unknown = encode_one(shuffled, values)
    assert still_unknown == 1
    assert again == [*(order.index(index) + 1 for index in range(6)), 0, 0]


def test_category_row_is_its_place_in_the_vocabulary() -> None:
    assert encode_one(CITY, [key_of("rome"), key_of("oslo"), key_of("bern")]) == ([2, 1, 3], 0)
    assert encode_one(CODE, [-3, 7, 8]) == ([2, 1, 0], 1)


def test_missing_is_row_zero_and_not_unknown() -> None:
    assert encode_one(CODE, [int(MISSING)]) == ([0], 0)
    assert encode_one(HASHED, [int(MISSING)]) == ([0], 0)


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1))
def test_a_given_id_is_never_row_zero(values: list[int]) -> None:
    rows, unknown = encode_one(HASHED, values)
    assert min(rows) >= 1
    assert max(rows) <= 4
    assert unknown == 0


def test_ids_spread_evenly_and_differently_per_feature() -> None:
    wide = replace(HASHED, buckets=101)
    rows, _ = encode_one(wide, list(range(100_000)))
    other, _ = encode_one(replace(wide, name="other"), list(range(100_000)))
    counts = np.bincount(rows, minlength=101)[1:]
    # Binomial: sd about 31 around 1000.
    assert counts.min() > 850
    assert counts.max() < 1150
    assert np.mean(np.array(rows) == np.array(other)) < 0.02


def test_ids_hash_alike_over_releases() -> None:
    rows, _ = encode_one(replace(HASHED, buckets=1000), [0, 1, -1, 2**62])
    assert rows == [456, 213, 128, 250]


def test_numbers_fall_between_the_cuts() -> None:
    numbers = np.array([[0.99], [1.0], [2.49], [2.5], [9.0], [-9.0]], np.float32)
    encoded = Encoder(schema_of(PRICE, HASHED)).encode("ad", np.zeros((6, 1), np.int64), numbers)
    assert (encoded.rows[:, 1] - 5).tolist() == [0, 1, 1, 2, 2, 0]


def test_columns_of_a_block_need_not_be_contiguous() -> None:
    wide = np.arange(12, dtype=np.int64).reshape(4, 3)
    nothing = np.empty((4, 0), np.float32)
    encoder = Encoder(schema_of(HASHED))
    sliced = encoder.encode("ad", wide[:, 1:2], nothing).rows
    assert np.array_equal(sliced, encoder.encode("ad", wide[:, 1:2].copy(), nothing).rows)
