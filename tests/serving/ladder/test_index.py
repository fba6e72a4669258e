import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ladder.index import DenseIndex, HashIndex, index_of

INT64 = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(-30, 30)


@given(st.lists(st.one_of(INT64, NEAR), unique=True, max_size=60), st.lists(st.one_of(INT64, NEAR), max_size=60))
def test_a_hash_index_equals_a_dictionary(keys: list[int], asked: list[int]) -> None:
    places = {key: place for place, key in enumerate(keys)}
    found = HashIndex(np.array(keys, np.int64)).places(np.array([*asked, *keys], np.int64))
    assert found.tolist() == [places.get(key, len(keys)) for key in [*asked, *keys]]


@given(INT64, st.sets(st.integers(0, 200), min_size=1, max_size=60), st.lists(st.one_of(INT64, NEAR), max_size=60))
def test_a_dense_index_equals_a_dictionary(least: int, offsets: set[int], asked: list[int]) -> None:
    keys = sorted(min(least, 2**63 - 201) + offset for offset in offsets)
    places = {key: place for place, key in enumerate(keys)}
    found = DenseIndex(np.array(keys, np.int64)).places(np.array([*asked, *keys], np.int64))
    assert found.tolist() == [places.get(key, len(keys)) for key in [*asked, *keys]]


def test_keys_that_hash_alike_are_told_apart() -> None:
    # Multiples of 2^58 leave the hash few bits to differ in.
    keys = np.arange(-16, 16, dtype=np.int64) << 58
    assert HashIndex(keys).places(keys).tolist() == list(range(32))


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (np.arange(10**6, 10**6 + 50_000), DenseIndex),
        (np.array([5, 4000]), DenseIndex),
        (np.array([-(2**63), 2**63 - 1]), HashIndex),
        (np.arange(2000) * 1000, HashIndex),
        (np.zeros(0, np.int64), DenseIndex),
    ],
)
def test_numbered_keys_get_cells_and_scattered_ones_hashes(
    keys: "np.ndarray[tuple[int], np.dtype[np.int64]]", kind: type
) -> None:
    index = index_of(keys)
    assert isinstance(index, kind)
    assert index.places(keys).tolist() == list(range(len(keys)))
    assert index.places(np.array([17, 3], np.int64)).tolist() == [len(keys)] * 2
