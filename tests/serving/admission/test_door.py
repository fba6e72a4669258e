from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.admission.door import Door
from serving.admission.priority import Priority

LIVE, NORMAL, SHADOW = Priority


def crowded(door: Door, wait_s: float, times: int) -> Door:
    for _ in range(times):
        door.observe(wait_s)
    return door


def test_a_short_way_in_refuses_nobody() -> None:
    door = crowded(Door(0.004), 0.004, 1000)
    assert door.share == 0
    assert all(door.admits(priority) for priority in Priority for _ in range(100))


def test_a_long_way_in_refuses_nearly_all_within_a_quarter_of_a_second_of_probes_and_heals() -> None:
    door = crowded(Door(0.004), 0.025, 25)
    assert door.share == Door.MOST
    crowded(door, 0.001, round(Door.MOST / Door.DOWN) + 3)
    assert door.share == 0


def test_a_single_hiccup_refuses_nobody() -> None:
    door = Door(0.004)
    for _ in range(10):
        crowded(door, 0.5, 1)
        crowded(door, 0.001, 2)
    assert door.share == 0


def test_somebody_always_comes_through() -> None:
    door = crowded(Door(0.004), 10.0, 10_000)
    assert 0 < sum(door.admits(LIVE) for _ in range(1000)) < 50


@given(st.lists(st.floats(0, 10), max_size=200))
def test_the_share_keeps_its_bounds(waits: list[float]) -> None:
    door = Door(0.004)
    for wait_s in waits:
        door.observe(wait_s)
        assert 0 <= door.share <= Door.MOST


def test_the_share_is_refused_evenly() -> None:
    door = crowded(Door(0.004), 0.005, 50)
    share = door.share
    admitted = [door.admits(LIVE) for _ in range(1000)]
    assert sum(admitted) == pytest.approx(1000 * (1 - share), abs=2)
    for start in range(0, 1000, 100):
        assert sum(admitted[start : start + 100]) == pytest.approx(100 * (1 - share), abs=2)


def test_lower_priorities_go_first() -> None:
    door = Door(0.004)
    for _ in range(100):
        for priority in (LIVE, LIVE, NORMAL, SHADOW):
            door.admits(priority)
    crowded(door, 0.005, 40)
    assert 0.25 < door.share < 0.5
    admitted = Counter(
        priority for _ in range(1000) for priority in (LIVE, LIVE, NORMAL, SHADOW) if door.admits(priority)
    )
    assert admitted[LIVE] == 2000
    assert 0 < admitted[NORMAL] < 1000
    assert admitted[SHADOW] < 50
    assert sum(admitted.values()) == pytest.approx(4000 * (1 - door.share), rel=0.05)


def test_a_target_must_be_positive() -> None:
    with pytest.raises(ValueError, match="target_s is 0"):
        Door(0.0)
