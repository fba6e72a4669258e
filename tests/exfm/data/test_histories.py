"""Training sees of a user's past what serving got from the store."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exfm.data.histories import Histories, Remembered
from exfm.features.embeddings import quantise
from exfm.features.encoding import MISSING
from exfm.features.history import History, inputs_at, merge, of_spaces, pack, row_of, split_row, unpack
from exfm.features.schema import HistorySpec

ROWS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from([int(MISSING), -5, 0, 7]), st.integers(0, 3)), min_size=1, max_size=40
)


def log_of(rows: list[tuple[int, int, int]], seed: int) -> tuple[History, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows of (time, user, space) by time, as events with random vectors."""
    rows, draw = sorted(rows, key=lambda row: row[0]), np.random.default_rng(seed)
    codes = quantise(draw.uniform(-1, 1, (len(rows), 3)).astype(np.float32), "int8")
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    number = draw.permutation(len(rows)).astype(np.uint64)
    return History(columns[0], number, columns[2].astype(np.uint32), codes, 3, "int8"), columns[1]


CUTS = st.lists(st.integers(0, 40), max_size=3)
SPACES = st.sampled_from([(), (1,), (2, 3)])


@given(ROWS, st.builds(HistorySpec, st.integers(1, 5), st.just(3), st.integers(0, 20), SPACES), CUTS, st.integers(0, 5))
def test_a_request_replayed_from_the_store_equals_the_row_in_training(
    rows: list[tuple[int, int, int]], spec: HistorySpec, cuts: list[int], seed: int
) -> None:
    """However the annotator's batches were cut, and whatever the store already knows of the future."""
    events, user = log_of(rows, seed)
    trained = Histories(events, user, events.time_ms, spec).rows(np.arange(len(user)))
    edges = sorted({0, len(user), *(min(cut, len(user)) for cut in cuts)})
    store: dict[int, bytes] = {}
    for start, stop in pairwise(edges):
        for who in np.unique(user[start:stop]):
            mine = np.flatnonzero((user[start:stop] == who) & (events.space[start:stop] != 0)) + start
            mine = mine[np.lexsort((events.event[mine], events.time_ms[mine]))]
            if who != MISSING and len(mine):
                old = unpack(store[int(who)]) if int(who) in store else History.empty(3, "int8")
                store[int(who)] = pack(merge(old, events.take(mine), 64))
    for row, (who, at_ms) in enumerate(zip(user.tolist(), events.time_ms.tolist(), strict=True)):
        kept = of_spaces(unpack(store[who]) if who in store else History.empty(3, "int8"), spec.spaces)
        served = row_of(inputs_at(kept, at_ms, delay_ms=spec.delay_ms, length=spec.length))
        np.testing.assert_array_equal(trained[row : row + 1], served)


@given(ROWS, st.integers(0, 20))
def test_a_row_sees_only_what_is_strictly_older_than_the_delay(rows: list[tuple[int, int, int]], delay_ms: int) -> None:
    events, user = log_of(rows, 0)
    made = Histories(events, user, events.time_ms, HistorySpec(4, 3, delay_ms))
    seen = made.seen(np.arange(len(user)))
    row, place = np.nonzero(seen >= 0)
    found = seen[row, place]
    assert (events.time_ms[found] < events.time_ms[row] - delay_ms).all()
    assert (user[found] == user[row]).all()
    assert (events.space[found] != 0).all()
    inputs = split_row(made.rows(np.arange(len(user))), 4)
    np.testing.assert_array_equal(inputs.known, seen >= 0)
    ages_s = (events.time_ms[row] - events.time_ms[found]) / 1e3
    np.testing.assert_allclose(inputs.age_s[row, place], ages_s, rtol=1e-6)
    assert made.known_share == (seen >= 0).any(1).mean()


@given(ROWS)
def test_events_of_spaces_that_the_student_does_not_read_are_not_seen(rows: list[tuple[int, int, int]]) -> None:
    events, user = log_of(rows, 0)
    found = Histories(events, user, events.time_ms, HistorySpec(4, 3, 0, (2,))).seen(np.arange(len(user)))
    assert (events.space[found[found >= 0]] == 2).all()


@given(ROWS, st.integers(1, 5), st.integers(0, 20), CUTS, st.integers(0, 5))
def test_histories_made_window_by_window_are_those_of_the_whole_log(
    rows: list[tuple[int, int, int]], length: int, delay_ms: int, cuts: list[int], seed: int
) -> None:
    events, user = log_of(rows, seed)
    spec = HistorySpec(length, 3, delay_ms)
    whole = Histories(events, user, events.time_ms, spec).rows(np.arange(len(user)))
    past, made = Remembered(spec, events.take(slice(0, 0)), user[:0]), []
    for start, stop in pairwise(sorted({0, len(user), *(cut for cut in cuts if cut < len(user))})):
        index = slice(start, stop)
        made.append(past.histories(events.take(index), user[index]).rows(np.arange(stop - start)))
        assert len(past.user) <= len(user)
    np.testing.assert_array_equal(np.concatenate(made), whole)


def test_what_is_remembered_does_not_grow_with_the_log() -> None:
    spec, past = HistorySpec(2, 3, 5), None
    for at in range(0, 1000, 20):
        events, user = log_of([(at + row, row % 4, 1) for row in range(20)], 0)
        past = past or Remembered(spec, events.take(slice(0, 0)), user[:0])
        past.histories(events, user)
        assert len(past.user) <= 4 * 2 + 2 * 5 + 1
