import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exfm.features.columns import Columns, Searched, Slotted
from exfm.features.schema import Feature
from exfm.features.slots import MOST_BITS, MOST_VALUES, Slots
from exfm.features.values import MISSING

KEYS = st.integers(-(2**63) + 1, 2**63 - 1)


def category(*values: int) -> Feature:
    return Feature("code", "ad", "category", vocabulary=values)


def filled(columns: Columns, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    rows = np.full(values.shape, -1)
    return rows, columns.fill(rows, values)


def slots_of(*values: int) -> Slots:
    slots = Slots.of(category(*values))
    assert slots is not None
    return slots


@given(st.lists(KEYS, min_size=1, max_size=200, unique=True))
def test_every_known_value_has_a_slot_of_its_own(values: list[int]) -> None:
    slots = slots_of(*values)
    known = np.array([MISSING, *values])
    places = (known.view(np.uint64) * np.uint64(slots.multiplier)) >> np.uint64(slots.shift)
    assert len(slots.keys) == len(slots.codes) == 2 ** (64 - slots.shift)
    assert slots.keys[places].tolist() == known.tolist()
    assert slots.codes[places].tolist() == list(range(len(known)))
    assert np.count_nonzero(slots.codes) == len(values)


def test_values_in_a_row_need_little_room() -> None:
    assert len(slots_of(*range(24)).keys) <= 64


def test_large_vocabularies_have_none() -> None:
    random = np.random.default_rng(0)
    for size in (MOST_VALUES - 1, MOST_VALUES, 100_000):
        assert Slots.of(category(*random.integers(-(2**62), 2**62, size).tolist())) is None
    assert MOST_BITS < 64


@given(st.lists(KEYS, min_size=1, max_size=20, unique=True), st.data())
def test_a_value_in_anothers_slot_is_unknown(values: list[int], data: st.DataObject) -> None:
    slots = slots_of(*values)
    inverse = pow(slots.multiplier, -1, 2**64)
    value = data.draw(st.sampled_from(values))
    # In the product, the bits below the slot's number are the intruder's own.
    product = value * slots.multiplier % 2**64
    other = data.draw(st.integers(1, 2**slots.shift - 1)) ^ product
    intruder = np.array([[other * inverse % 2**64]], np.uint64).view(np.int64)
    assert other >> slots.shift == product >> slots.shift
    rows, unknown = filled(Slotted([slots], [10]), intruder)
    known = [int(MISSING), *values]
    expected = 10 + known.index(intruder.item()) if intruder.item() in known else 10
    assert (rows.item(), unknown) == (expected, int(intruder.item() not in known))


@given(
    st.lists(st.lists(KEYS, min_size=1, max_size=8, unique=True), min_size=1, max_size=4), st.integers(0, 9), st.data()
)
def test_searching_finds_what_slots_hold(vocabularies: list[list[int]], rows: int, data: st.DataObject) -> None:
    features = [Feature(f"f{place}", "ad", "category", vocabulary=tuple(v)) for place, v in enumerate(vocabularies)]
    starts = np.cumsum([0, *(feature.rows for feature in features)])[:-1].tolist()
    slots = [slots_of(*vocabulary) for vocabulary in vocabularies]
    value = st.one_of(KEYS, st.just(int(MISSING)), st.sampled_from([key for keys in vocabularies for key in keys]))
    drawn = [data.draw(st.lists(value, min_size=rows, max_size=rows)) for _ in features]
    values = np.array(drawn, np.int64).reshape(len(features), rows)
    found, unknown = filled(Slotted(slots, starts), values)
    searched, also_unknown = filled(Searched(features, starts), values)
    assert found.tolist() == searched.tolist()
    assert unknown == also_unknown
