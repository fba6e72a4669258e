"""The law of giving way, on a clock of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.augment.annotate.workers.way import LONGEST_S, TURN_S, MostlyStopped, Way

QUIET_S = 0.005


def test_nobody_else_nothing_stops() -> None:
    way = Way(QUIET_S)
    assert all(way.hear(False, 0.001 * step) for step in range(1000))


def test_they_stop_at_once_and_stay_off_for_the_quiet_time() -> None:
    way = Way(QUIET_S)
    assert way.hear(False, 0.0)
    assert not way.hear(True, 1.0)
    assert not way.hear(False, 1.0 + QUIET_S * 0.9)
    assert way.hear(False, 1.0 + QUIET_S * 1.01)


def test_others_within_the_quiet_time_prolong_it() -> None:
    way = Way(QUIET_S)
    assert [way.hear(others, at_s) for others, at_s in ((True, 1.0), (True, 1.004), (False, 1.008))] == [False] * 3
    assert way.hear(False, 1.0091)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0002, 0.02)), min_size=100, max_size=200))
def test_no_stop_is_long_and_no_turn_short(looks: list[tuple[bool, float]]) -> None:
    way, now_s, since_s, ran = Way(QUIET_S), 0.0, 0.0, True
    for others, pause_s in looks:
        now_s += pause_s
        runs = way.hear(others, now_s)
        if runs != ran:
            if runs:
                assert now_s - since_s <= LONGEST_S + 0.02 + 1e-9
            since_s, ran = now_s, runs


@pytest.mark.parametrize("look_s", [0.0005, 0.002])
def test_where_others_never_rest_a_twentieth_is_left(look_s: float) -> None:
    way, ran = Way(QUIET_S), 0
    looks = round(20 / look_s)
    for step in range(looks):
        ran += way.hear(True, step * look_s)
    assert ran / looks == pytest.approx(TURN_S / (LONGEST_S + TURN_S), rel=0.2)


@pytest.mark.parametrize(("stopped", "told"), [(0.85, 0), (0.95, 3)])
def test_who_hardly_ever_runs_is_told_of_each_minute(stopped: float, told: int) -> None:
    held = MostlyStopped()
    looks = [held.hear(step % 100 >= 100 * stopped, step * 0.1) for step in range(1900)]
    assert sum(looks) == told
