"""Whose each candidate is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.runner.scorer import counts_of

HUGE = 2**62


def is_sound(owner: list[int], requests: int) -> bool:
    return owner == sorted(owner) and sorted(set(owner)) == list(range(requests)) and requests > 0


@given(owner=st.lists(st.integers(-2, 5), max_size=9), requests=st.integers(0, 6))
def test_owners_are_counted_or_refused(owner: list[int], requests: int) -> None:
    check(np.array(owner, np.int64), requests)


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_owners_are_refused_for_one_wrong_value(counts: list[int], data: st.DataObject) -> None:
    owner = np.repeat(np.arange(len(counts)), counts)
    check(owner, len(counts))
    owner[data.draw(st.integers(0, len(owner) - 1))] = data.draw(st.integers(-(2**63), 2**63 - 1))
    check(owner, len(counts))


@pytest.mark.parametrize("owner", [[0, HUGE], [0, 1, HUGE], [0, HUGE, HUGE], [-HUGE, HUGE], [0, -(2**63), 2**63 - 1]])
def test_huge_owners_are_refused_before_anything_is_made_for_each(owner: list[int]) -> None:
    assert counts_of(np.array(owner), owner[-1] + 1) is None


def check(owner: NDArray[np.int64], requests: int) -> None:
    counts = counts_of(owner, requests)
    assert (counts is not None) == is_sound(owner.tolist(), requests)
    if counts is not None:
        assert counts.dtype == np.int64
        assert counts.tolist() == [owner.tolist().count(request) for request in range(requests)]
