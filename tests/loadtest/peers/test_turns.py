from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.peers.turns import best_of, spread, turns

NAMES = st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=9, unique=True)


@given(NAMES, st.integers(1, 6))
def test_each_system_has_one_turn_per_repeat_and_repeats_follow_one_another(names: list[str], repeats: int) -> None:
    made = turns(names, repeats)
    assert [turn.repeat for turn in made] == sorted(turn.repeat for turn in made)
    for repeat in range(repeats):
        assert sorted(turn.system for turn in made if turn.repeat == repeat) == sorted(names)


@given(NAMES, st.integers(1, 3))
def test_a_linear_drift_favours_no_system_over_an_even_number_of_repeats(names: list[str], pairs: int) -> None:
    made = turns(names, 2 * pairs)
    places = {name: mean(at for at, turn in enumerate(made) if turn.system == name) for name in names}
    assert len(set(places.values())) == 1


def test_the_best_peer_is_the_one_with_the_greatest_median_and_never_ours() -> None:
    capacity = {"exfm": [900.0], "mosec": [100.0, 300.0], "fastapi": [190.0, 190.0, 500.0], "gone": []}
    assert best_of(capacity, ["exfm"]) == ("mosec", 200.0)
    assert best_of({"exfm": [900.0], "slow": [0.0]}, ["exfm"]) is None


@pytest.mark.parametrize(("values", "expected"), [([90.0, 110.0], 0.2), ([5.0], 0.0), ([], 0.0), ([0.0, 0.0], 0.0)])
def test_spread_is_relative_to_the_median(values: list[float], expected: float) -> None:
    assert spread(values) == pytest.approx(expected)
