"""Codes of embeddings: small, bounded error, nothing lost in packing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exfm.features.embeddings import CODECS, Codec, code_bytes, quantise, restore

VECTORS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=33), elements=st.floats(-1, 1, width=32)
)


@given(VECTORS)
def test_int4_is_within_a_sixteenth_inside_its_grid(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    back = restore(quantise(values, "int4"), values.shape[1], "int4")
    inside = values <= 7 / 8
    assert np.abs(back - values)[inside].max(initial=0) <= 1 / 16
    assert np.abs(back - values).max(initial=0) <= 1 / 8  # the grid ends at 7/8
    assert set(np.unique(np.rint(back * 8))) <= set(range(-8, 8))


@given(VECTORS)
def test_int8_is_within_half_a_step(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    back = restore(quantise(values, "int8"), values.shape[1], "int8")
    assert np.abs(back - values).max(initial=0) <= 0.5 / 127 + 1e-6


@given(VECTORS, st.sampled_from(CODECS))
def test_restored_vectors_code_to_themselves(
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]], codec: Codec
) -> None:
    codes = quantise(values, codec)
    assert codes.shape == (len(values), code_bytes(values.shape[1], codec))
    np.testing.assert_array_equal(quantise(restore(codes, values.shape[1], codec), codec), codes)


def test_int4_packs_two_codes_into_a_byte() -> None:
    codes = quantise(np.array([[-1.0, 0.875, 0.25]], np.float32), "int4")
    assert codes.tolist() == [[0x78, 0x02]]


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_number_becomes_a_code_too(codec: Codec) -> None:
    back = restore(quantise(np.array([[np.nan, np.inf, -np.inf]], np.float32), codec), 3, codec)
    assert back[0, 0] == 0
    assert back[0, 1] > 0.8
    assert back[0, 2] == pytest.approx(-1)
