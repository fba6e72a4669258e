import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals.schedule import arrivals
from loadtest.arrivals.shapes import SHAPES, Profile, bursty, overload, ramp, spike, steps

rates = st.floats(1.0, 5000.0)
lengths = st.floats(1.0, 600.0)


@given(st.sampled_from(sorted(SHAPES)), rates, lengths, st.integers(0, 99))
def test_instants_are_the_inverse_of_the_expected_count(name: str, rate: float, seconds: float, seed: int) -> None:
    profile = SHAPES[name](rate, seconds, seed)
    assert profile.seconds == pytest.approx(seconds)
    counts = np.linspace(0, profile.expected, 50)[:-1]
    instants = profile.instant_of(counts)
    assert (np.diff(instants) >= 0).all()
    assert instants[0] >= 0
    assert instants[-1] <= seconds * (1 + 1e-9)
    if name in ("steady", "ramp"):  # no steps, so that the sum over a grid is exact
        grid = np.linspace(0, seconds * (1 - 1e-9), 101)
        by_sum = np.trapezoid([profile.rate_at(float(at_s)) for at_s in grid], grid)
        assert by_sum == pytest.approx(profile.expected, rel=1e-3)


@given(rates, lengths, st.integers(0, 999))
def test_bursts_have_the_mean_that_was_asked_for_and_really_burst(rate: float, seconds: float, seed: int) -> None:
    profile = bursty(rate, seconds, seed)
    assert profile.mean_rps == pytest.approx(rate)
    assert profile.rate_rps.max() > 2 * profile.rate_rps.min()


def test_the_shapes_have_the_rates_that_they_say() -> None:
    assert [spike(10, 10).rate_at(t) for t in (0.0, 3.9, 4.1, 5.9, 6.1)] == [10, 10, 100, 100, 10]
    assert [overload(10, 10).rate_at(t) for t in (1.0, 3.0, 5.0, 7.0, 9.0)] == [10, 20, 50, 100, 10]
    assert ramp(10, 10).rate_at(0.0) == pytest.approx(1.0)
    assert ramp(10, 10).rate_at(9.999) == pytest.approx(20.0, rel=0.01)
    assert ramp(10, 10).rate_at(10.0) == 0.0


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_arrivals_follow_the_profile(name: str) -> None:
    profile = SHAPES[name](400.0, 20.0, 3)
    instants = arrivals(profile, 1)
    assert (np.diff(instants) >= 0).all()
    assert instants[-1] < 20.0
    counted, edges = np.histogram(instants, bins=10, range=(0, 20))
    so_far = np.interp(
        edges, profile.instant_of(np.linspace(0, profile.expected, 4001)), np.linspace(0, profile.expected, 4001)
    )
    expected = np.diff(so_far)
    assert (np.abs(counted - expected) <= 5 * np.sqrt(expected) + 5).all()


def test_a_silent_piece_brings_no_arrivals() -> None:
    instants = arrivals(steps("gap", [(1.0, 100.0), (1.0, 0.0), (1.0, 100.0)]), 0)
    assert not ((instants > 1.0) & (instants < 2.0)).any()


@pytest.mark.parametrize(
    ("at_s", "rate"),
    [
        ([0.0], [1.0]),
        ([1.0, 2.0], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, 1.0]),
        ([0.0, 1.0], [0.0, 0.0]),
        ([0.0, 1.0], [-1.0, 3.0]),
    ],
)
def test_an_impossible_profile_is_refused(at_s: list[float], rate: list[float]) -> None:
    with pytest.raises(ValueError, match="a profile"):
        Profile(np.array(at_s), np.array(rate))
