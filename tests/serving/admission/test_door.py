from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.admission.door import Door
from serving.admission.priority import Priority

LIVE, NORMAL, SHADOW = Priority


class WayIn:
    """One server, one line, and a probe in it every 10 ms, as `DoorProbe` sends them."""

    def __init__(self, door: Door, random: Random, answer_s: float, refusal_s: float) -> None:
        self._door, self._random = door, random
        self._answer_s, self._refusal_s = answer_s, refusal_s
        self._free_s = self._sent_s = 0.0
        self._arrived_s = -1.0
        self._looks_s = 0.01
        self._waits_s: list[float] = []
        self._admitted = 0

    def run(self, rate: float, seconds: float) -> None:
        came_s = self._random.expovariate(rate)
        while came_s < seconds:
            if self._sent_s > self._arrived_s and self._sent_s <= came_s:
                self._take_probe()
            self._look(until_s=max(self._free_s, came_s))
            self._take(max(self._free_s, came_s), came_s)
            came_s += self._random.expovariate(rate)

    def _take(self, now_s: float, came_s: float) -> None:
        arrived = self._arrived_s >= self._sent_s
        admitted = self._door.admits(LIVE, (self._arrived_s if arrived else now_s) - self._sent_s)
        self._admitted += admitted
        self._waits_s.append(now_s - came_s)
        self._free_s = now_s + self._random.uniform(0.6, 1.4) * (self._answer_s if admitted else self._refusal_s)

    def _take_probe(self) -> None:
        self._arrived_s = max(self._free_s, self._sent_s)
        self._free_s = self._arrived_s + 0.3e-3

    def _look(self, until_s: float) -> None:
        while self._looks_s <= until_s:
            arrived = self._sent_s <= self._arrived_s <= self._looks_s
            self._door.observe((self._arrived_s if arrived else self._looks_s) - self._sent_s)
            if arrived:
                self._sent_s = self._looks_s
            self._looks_s += 0.01

    @property
    def admitted_share(self) -> float:
        return self._admitted / len(self._waits_s)

    def wait_s(self, quantile: float) -> float:
        return sorted(self._waits_s)[int(quantile * len(self._waits_s))]


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
    crowded(door, 0.001, 2)
    assert 0 < door.share < Door.MOST
    crowded(door, 0.001, round(Door.MOST / (0.75 * Door.FOLLOWS)) + 1)
    assert door.share == 0


def test_a_single_hiccup_refuses_nobody() -> None:
    door = Door(0.004)
    for _ in range(10):
        crowded(door, 0.5, 1)
        crowded(door, 0.001, 2)
    assert door.share == 0


def test_while_a_crowd_is_there_more_are_refused_the_longer_the_way_is() -> None:
    door = crowded(Door(0.004), 0.005, 20)
    share, longer_s = door.share, 0.006
    assert 0 < share < 0.5
    admitted = sum(door.admits(LIVE, longer_s) for _ in range(1000))
    assert admitted == pytest.approx(1000 * (1 - share - Door.LEANS * 0.25), abs=2)


def test_as_soon_as_nobody_waits_all_come_in() -> None:
    door = crowded(Door(0.004), 0.006, 30)
    assert door.share > 0.4
    crowded(door, 0.0, 2)
    assert door.share == 0
    assert all(door.admits(LIVE) for _ in range(100))


def test_a_request_that_waited_long_alone_is_no_crowd() -> None:
    door = crowded(Door(0.004), 0.003, 100)
    assert all(door.admits(LIVE, 0.02) for _ in range(100))
    crowded(door, 0.006, 3)
    crowded(door, 0.0039, 2)
    assert 94 <= sum(door.admits(LIVE, 0.02) for _ in range(100)) < 100  # what is left of a crowd, and then a hiccup


def test_none_suffers_from_the_moment_while_a_lower_one_comes_in() -> None:
    door = Door(0.004)
    for _ in range(100):
        for priority in (LIVE, LIVE, SHADOW):
            door.admits(priority)
    crowded(door, 0.0045, 40)
    assert 0.0 < door.share < 0.3
    admitted = Counter(each for _ in range(100) for each in (LIVE, LIVE, SHADOW) if door.admits(each, 0.012))
    assert admitted[LIVE] == 200
    assert admitted[SHADOW] < 50


@pytest.mark.parametrize("rate", [1000.0, 1300.0, 1700.0])
@pytest.mark.parametrize("seed", range(5))
def test_of_what_can_be_taken_up_most_is_and_soon(seed: int, rate: float) -> None:
    """A frontend that answers in .95 ms and refuses in .42: the way in stays short, and little time is left unused."""
    way = WayIn(Door(0.00625), Random(seed), answer_s=0.95e-3, refusal_s=0.42e-3)
    way.run(rate, 4.0)
    room = (1 - rate * 0.42e-3) / 0.53e-3 / rate
    assert way.admitted_share > 0.75 * room
    assert way.wait_s(0.5) < 0.0095
    assert way.wait_s(0.95) < 0.02


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
    crowded(door, 0.005, 60)
    admitted = Counter(
        priority for _ in range(1000) for priority in (LIVE, LIVE, NORMAL, SHADOW) if door.admits(priority)
    )
    assert admitted[LIVE] == 2000
    assert 600 < admitted[NORMAL] < 800
    assert admitted[SHADOW] < 50


def test_a_target_must_be_positive() -> None:
    with pytest.raises(ValueError, match="target_s is 0"):
        Door(0.0)
