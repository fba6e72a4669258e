"""Events as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.events import impression, outcome
from exfm.events.ids import KEY_BYTES, event_number, impression_key, space_of
from exfm.events.impression import BLOCKS, Impression
from exfm.events.outcome import Outcome
from exfm.events.wire import EventError

INT64 = st.integers(-(2**63), 2**63 - 1)
OUTCOMES = st.builds(
    Outcome, st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), st.text(max_size=8), st.floats(0, 1), INT64
)
IMPRESSIONS = st.builds(
    Impression,
    key=st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
    request_id=st.text(max_size=20),
    ad=INT64,
    user=INT64,
    time_ms=INT64,
    vertical=st.text(max_size=8),
    version=INT64,
    schema_hash=st.text(max_size=8),
    tier=st.sampled_from(["full", "prior"]),
    reason=st.text(max_size=8),
    place=st.integers(0, 100),
    bid=st.floats(allow_nan=False),
    probability=st.binary(max_size=8),
    history=st.binary(max_size=30),
    **{name: st.binary(max_size=24) for name in BLOCKS},
)


@given(st.lists(OUTCOMES, max_size=5))
def test_outcomes_come_back_as_they_were(rows: list[Outcome]) -> None:
    assert outcome.decode(outcome.encode(rows)) == rows


@given(st.lists(IMPRESSIONS, max_size=4))
def test_impressions_come_back_as_they_were(rows: list[Impression]) -> None:
    batch = impression.decode(impression.encode(rows))
    assert [Impression(*row.values()) for row in batch.to_pylist()] == rows


@given(st.binary(max_size=300))
def test_junk_is_no_batch(payload: bytes) -> None:
    with pytest.raises(EventError):
        outcome.decode(payload)


@given(st.lists(OUTCOMES, min_size=1, max_size=3), st.data())
def test_damage_is_noticed(rows: list[Outcome], data: st.DataObject) -> None:
    payload = bytearray(outcome.encode(rows))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(EventError):
        outcome.decode(bytes(payload))


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(EventError, match="expected events of kind EXO1"):
        outcome.decode(impression.encode([]))


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(EventError, match="cannot be encoded"):
        outcome.encode([Outcome(b"short", "click", 1.0, 1)])


NAMES = st.tuples(st.sampled_from(["", "a", "ab"]), st.sampled_from(["", "b", "bc", "c"]) | st.text(max_size=40), INT64)


@given(NAMES, NAMES)
def test_keys_are_the_same_for_the_same_impression_only(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    key = impression_key(*one)
    assert len(key) == KEY_BYTES
    assert (key == impression_key(*other)) == (one == other)
    assert 0 <= event_number(key) < 2**64


def test_spaces_differ_by_snapshot() -> None:
    assert space_of("a-1") == space_of("a-1") != space_of("a-2")
