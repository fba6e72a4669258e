"""The packed history and the rule of what a row may see."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.embeddings import quantise
from exfm.features.history import (
    History,
    PackedError,
    append,
    inputs_at,
    inputs_of,
    latest,
    merge,
    pack,
    row_of,
    split_row,
    unpack,
    user_key,
)


def history(times: list[int], events: list[int] | None = None, dimension: int = 4) -> History:
    count = len(times)
    vectors = np.tile(np.linspace(-1, 0.8, dimension, dtype=np.float32), (count, 1))
    return History(
        np.array(times, np.int64),
        np.array(events if events is not None else times, np.uint64),
        np.full(count, 7, np.uint32),
        quantise(vectors * np.linspace(0.2, 1, max(count, 1), dtype=np.float32)[:count, None], "int4"),
        dimension,
        "int4",
    )


def same(one: History, other: History) -> bool:
    mine, theirs = vars(one), vars(other)
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)


@given(st.lists(st.integers(0, 1 << 50), max_size=40).map(sorted), st.sampled_from([1, 4, 5, 32]))
def test_packing_loses_nothing(times: list[int], dimension: int) -> None:
    made = history(times, list(range(len(times))), dimension)
    assert same(unpack(pack(made)), made)


@given(st.binary(max_size=200))
def test_junk_is_refused(value: bytes) -> None:
    with pytest.raises(PackedError):
        unpack(value)


@given(st.integers(0, 50), st.binary(min_size=1, max_size=3))
def test_a_value_that_was_cut_or_grew_is_refused(cut: int, more: bytes) -> None:
    value = pack(history([1, 2, 3]))
    for bad in (value[:-1], value[: min(cut, len(value) - 1)], value + more):
        with pytest.raises(PackedError):
            unpack(bad)


@given(st.lists(st.integers(0, 60), max_size=30), st.lists(st.integers(0, 60), max_size=30), st.integers(1, 20))
def test_merging_keeps_each_event_once_by_time_and_the_last_ones(old: list[int], new: list[int], capacity: int) -> None:
    first, second = history(sorted(set(old))), history(sorted(set(new)))
    merged = merge(first, second, capacity)
    assert merged.time_ms.tolist() == sorted({*old, *new})[-capacity:]
    assert same(merge(merged, second, capacity), merged)


@given(
    st.lists(st.integers(0, 60), max_size=12),
    st.lists(st.integers(0, 90), max_size=8),
    st.integers(1, 10),
    st.integers(0, 60),
    st.sampled_from([4, 8]),
)
def test_appending_to_bytes_is_merging(
    old: list[int], new: list[int], capacity: int, since_ms: int, dimension: int
) -> None:
    before = merge(history([]), history(sorted(old), list(range(len(old)))), 12)
    more = history(sorted(new), list(range(100, 100 + len(new))), dimension)
    for given_value, same_as in ((pack(before), before), (None, History.empty(dimension, "int4"))):
        expected = pack(merge(same_as, more, capacity, not_before_ms=since_ms))
        made = append(given_value, more, capacity, not_before_ms=since_ms)
        assert made == expected
        assert append(made, more, capacity, not_before_ms=since_ms) == made


def test_appending_to_what_is_no_history_is_refused() -> None:
    for bad in (b"", b"junk" * 10, pack(history([1]))[:-1]):
        with pytest.raises(PackedError):
            append(bad, history([5]), 10)


def test_merging_drops_what_is_too_old_or_of_another_make() -> None:
    assert merge(history([1, 5]), history([9]), 10, not_before_ms=5).time_ms.tolist() == [5, 9]
    assert merge(history([1, 5], dimension=8), history([9]), 10).time_ms.tolist() == [9]


def brute(owner: Any, time_ms: Any, who: int, at_ms: int, *, delay_ms: int, length: int) -> list[int]:
    seen = [i for i in range(len(owner)) if owner[i] == who and time_ms[i] < at_ms - delay_ms][-length:]
    return [-1] * (length - len(seen)) + seen


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=40).map(sorted),
    st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 40)), min_size=1, max_size=10),
    st.integers(0, 10),
    st.integers(1, 5),
)
def test_a_row_sees_its_users_last_events_strictly_before_it_less_the_delay(
    events: list[tuple[int, int]], asked: list[tuple[int, int]], delay_ms: int, length: int
) -> None:
    owner = np.array([who for who, _ in events], np.int64)
    time_ms = np.array([at for _, at in events], np.int64)
    who, at = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    made = latest(owner, time_ms, who, at, delay_ms=delay_ms, length=length)
    expected = [brute(owner, time_ms, w, t, delay_ms=delay_ms, length=length) for w, t in asked]
    assert made.tolist() == expected


@given(st.lists(st.integers(0, 100), max_size=30).map(sorted), st.integers(0, 120), st.integers(0, 20))
def test_serving_and_training_see_the_same(times: list[int], at_ms: int, delay_ms: int) -> None:
    mine = history(times, list(range(len(times))))
    served = inputs_at(unpack(pack(mine)), at_ms, delay_ms=delay_ms, length=6)
    # Training has the events of all users in one array.
    owner = np.repeat([0, 1, 2], len(times))
    everyone = replace(
        mine,
        time_ms=np.tile(mine.time_ms, 3),
        event=np.tile(mine.event, 3),
        space=np.tile(mine.space, 3),
        codes=np.tile(mine.codes, (3, 1)),
    )
    at = np.array([at_ms], np.int64)
    index = latest(owner, everyone.time_ms, np.array([1]), at, delay_ms=delay_ms, length=6)
    trained = inputs_of(everyone, index, at)
    np.testing.assert_array_equal(trained.values, served.values)
    np.testing.assert_array_equal(trained.known, served.known)
    np.testing.assert_array_equal(trained.age_s, served.age_s)
    assert (served.age_s[served.known] * 1e3 > delay_ms - 1e-3).all()


def test_the_future_changes_nothing() -> None:
    now = history([10, 20, 30])
    later = merge(now, history([40, 50]), 10)
    one, two = (inputs_at(each, 35, delay_ms=0, length=4) for each in (now, later))
    np.testing.assert_array_equal(one.known, two.known)
    np.testing.assert_allclose(one.age_s, two.age_s)


def test_no_history_gives_empty_inputs() -> None:
    made = inputs_at(History.empty(4, "int4"), 100, delay_ms=0, length=3)
    assert made.values.shape == (1, 3, 4)
    assert not made.known.any()
    assert not made.values.any()


def test_user_keys_are_eight_bytes_of_their_own() -> None:
    assert len({user_key(user) for user in (-(2**63), -1, 0, 1, 2**63 - 1)}) == 5
    assert {len(user_key(user)) for user in (-1, 5)} == {8}


@given(st.lists(st.integers(0, 100), max_size=30).map(sorted), st.integers(0, 120), st.integers(1, 7))
def test_a_row_holds_values_then_flags_then_ages(times: list[int], at_ms: int, length: int) -> None:
    made = inputs_at(history(times, dimension=3), at_ms, delay_ms=2, length=length)
    row = row_of(made)
    assert row.shape == (1, length * 5)
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row[0, : 3 * length], made.values.ravel())
    np.testing.assert_array_equal(row[0, 3 * length : 4 * length], made.known[0])
    back = split_row(row, length)
    for mine, theirs in zip(vars(made).values(), vars(back).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_no_rows_are_no_rows() -> None:
    made = inputs_of(history([1, 2]), np.empty((0, 3), np.int64), np.empty(0, np.int64))
    assert row_of(made).shape == (0, 3 * (4 + 2))
    assert split_row(row_of(made), 3).values.shape == (0, 3, 4)


def test_no_history_is_a_row_of_zeros() -> None:
    assert not row_of(inputs_at(History.empty(4, "int4"), 100, delay_ms=0, length=3)).any()


@pytest.mark.parametrize("width", [7, 6, 0])
def test_a_row_of_another_width_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="does not hold 3 events"):
        split_row(np.zeros((1, width), np.float32), 3)
