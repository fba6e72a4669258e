from typing import Any

import numpy as np
import pytest

from serving.budget.estimates import Estimates
from serving.ladder.choice import Ask, choose
from serving.ladder.lane import Rung
from serving.ladder.tier import Tier


@pytest.fixture
def estimates(clock: Any) -> Estimates:
    return Estimates(64, 0.002, clock)


def _feed(estimates: Estimates, clock: Any, seconds: float, scale: float = 1.0, rate: int = 200) -> None:
    rng = np.random.default_rng(1)
    for _ in range(int(seconds * rate)):
        clock.now_s += 1 / rate
        size = int(rng.choice([50, 200, 800]))
        estimates.observe(size, scale * (0.001 + 1e-5 * size + rng.exponential(0.0005)))


def test_a_seed_is_predicted_with_its_own_again_as_tail(estimates: Estimates) -> None:
    seeded = estimates.predict(64)
    assert (seeded.mean_s, seeded.p99_s) == pytest.approx((0.002, 0.004))
    estimates.seed(100, 0.010)
    assert estimates.predict(100).mean_s == pytest.approx(0.010)
    assert estimates.coverage == 1.0


def test_only_a_quicker_call_replaces_the_seed_alone(estimates: Estimates, clock: Any) -> None:
    estimates.lower(64, 0.005)
    assert estimates.predict(64).mean_s == pytest.approx(0.002)
    _feed(estimates, clock, 3)
    before = estimates.predict(200)
    estimates.lower(64, 0.001)
    assert estimates.predict(200).mean_s == pytest.approx(before.mean_s, rel=0.05)
    clock.now_s += 1
    assert estimates.predict(64).mean_s == pytest.approx(0.001)


def test_it_learns_mean_and_tail_by_size_and_its_predictions_hold(estimates: Estimates, clock: Any) -> None:
    _feed(estimates, clock, 20)
    for size in (50, 200, 800):
        predicted = estimates.predict(size)
        assert predicted.mean_s == pytest.approx(0.0015 + 1e-5 * size, rel=0.1)
        # Exponential with mean 0.5 ms: the p99 is 2.3 ms above nought.
        assert predicted.p99_s == pytest.approx(0.001 + 1e-5 * size + 0.0023, rel=0.35)
    assert 0.97 <= estimates.coverage <= 0.999


@pytest.mark.parametrize("within_s", [0.0005, 0.004, 0.006, 0.02])
@pytest.mark.parametrize("learned", [False, True])
def test_the_most_candidates_are_the_inverse_of_the_prediction(
    estimates: Estimates, clock: Any, within_s: float, learned: bool
) -> None:
    if learned:
        _feed(estimates, clock, 5)
    most = estimates.most(within_s)
    assert most == 0 or estimates.predict(most).p99_s <= within_s + 1e-9
    assert estimates.predict(most + 1).p99_s > within_s - 1e-9
    few = estimates.most(1.0, within_s)
    assert few == 0 or estimates.predict(few).mean_s <= within_s + 1e-9


def test_a_slower_backend_is_followed_and_so_is_its_recovery(estimates: Estimates, clock: Any) -> None:
    _feed(estimates, clock, 3)
    before = estimates.predict(200)
    _feed(estimates, clock, 3, scale=5)
    assert estimates.predict(200).mean_s > 4 * before.mean_s
    _feed(estimates, clock, 3)
    after = estimates.predict(200)
    assert after.mean_s < 1.3 * before.mean_s
    assert after.p99_s < 1.5 * before.p99_s


def test_a_stall_keeps_calls_away_and_a_few_good_ones_end_that(estimates: Estimates, clock: Any) -> None:
    _feed(estimates, clock, 3)
    before = estimates.predict(200)
    for _ in range(100):
        clock.now_s += 0.02
        estimates.miss(200, 0.02)
    assert estimates.coverage < 0.95
    assert estimates.predict(200).mean_s > 0.015
    clock.now_s += Estimates.STALE_S + 0.01
    assert estimates.predict(200).mean_s < 0.01
    _feed(estimates, clock, 1.0)
    assert estimates.predict(200).p99_s < 1.5 * before.p99_s


def test_a_few_misses_leave_the_tail_to_the_calls_that_ended(estimates: Estimates, clock: Any) -> None:
    _feed(estimates, clock, 3)
    before = estimates.predict(200)
    for _ in range(20):
        estimates.miss(200, 0.02)
        _feed(estimates, clock, 0.2)
    assert estimates.predict(200).p99_s < 1.5 * before.p99_s


def test_calls_too_large_to_end_in_time_are_learned_from_their_misses(estimates: Estimates, clock: Any) -> None:
    for _ in range(20):
        clock.now_s += 0.05
        estimates.miss(2000, 0.04)
    assert estimates.predict(2000).mean_s > 0.035
    assert estimates.most(0.02) < 1000


def test_what_nobody_has_confirmed_lately_gives_way_to_the_seed(estimates: Estimates, clock: Any) -> None:
    _feed(estimates, clock, 3, scale=50)
    assert estimates.predict(64).mean_s > 0.05
    clock.now_s += 0.3
    assert estimates.predict(64).mean_s == pytest.approx(0.002)


def test_no_cost_is_nought(estimates: Estimates) -> None:
    for _ in range(500):
        estimates.observe(10, -0.01)
    assert estimates.predict(10).mean_s > 0
    assert estimates.predict(10).p99_s >= estimates.predict(10).mean_s


def test_a_profile_gives_the_seed_its_slope_and_the_measured_call_its_level(clock: Any) -> None:
    estimates = Estimates(clock=clock, profile={1: 0.0002, 100: 0.0005, 2000: 0.0062})
    estimates.seed(64, 0.0012)
    slope = 0.006 / 1999
    assert estimates.predict(64).mean_s == pytest.approx(0.0012)
    assert estimates.predict(1500).mean_s == pytest.approx(0.0012 + slope * (1500 - 64))


def test_a_level_below_the_profile_is_not_believed(clock: Any) -> None:
    estimates = Estimates(clock=clock, profile={1: 0.0002, 2000: 0.0062})
    estimates.seed(2000, 0.0001)
    assert estimates.predict(2000).mean_s >= 0.006


def test_the_seed_follows_canaries_up_when_all_of_the_latest_are_slower_and_down_at_once(
    estimates: Estimates, clock: Any
) -> None:
    estimates.seed(64, 0.002)
    for _ in range(Estimates.CANARIES - 1):
        estimates.lower(64, 0.005)
    assert estimates.predict(64).mean_s == pytest.approx(0.002)
    for service_s in (0.004, 0.006):
        estimates.lower(64, service_s)
    assert estimates.predict(64).mean_s == pytest.approx(0.004)
    estimates.lower(64, 0.0021)
    assert estimates.predict(64).mean_s == pytest.approx(0.0021)
    for _ in range(100):  # nothing rises without bound, and no old record is forgotten
        estimates.lower(64, 0.0022)
    assert estimates.predict(64).mean_s == pytest.approx(0.0022)
    clock.now_s += 60
    assert estimates.predict(64).mean_s == pytest.approx(0.0022)


def test_a_backend_that_has_become_slower_is_so_for_every_candidate(clock: Any) -> None:
    estimates = Estimates(clock=clock, profile={1: 0.0002, 2000: 0.0062})
    estimates.seed(64, 0.0012)
    before = estimates.predict(1500).mean_s
    for _ in range(Estimates.CANARIES):
        estimates.lower(64, 0.0024)
    assert estimates.predict(64).mean_s == pytest.approx(0.0024)
    assert estimates.predict(1500).mean_s == pytest.approx(2 * before)


def test_a_call_given_up_before_its_promise_says_nothing_of_that(estimates: Estimates) -> None:
    estimates.miss(64, 0.003, promised_s=0.004)
    assert estimates.coverage == 1.0
    assert estimates.predict(64).mean_s > 0.002
    estimates.observe(64, 0.002, 0.004)
    estimates.miss(64, 0.004, promised_s=0.004)
    assert estimates.coverage == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("slower", [1, 2, 4])
def test_rare_calls_to_a_slower_backend_get_the_tier_that_fits(clock: Any, slower: int) -> None:
    """A request of 500 candidates in 20 ms now and then, and a canary of 64 each second."""
    estimates = Estimates(clock=clock, profile={1: 0.001, 2000: 0.04})
    estimates.seed(64, 0.002)
    tiers: list[Tier] = []
    for _ in range(20):
        clock.now_s += 1
        estimates.lower(64, slower * 0.002)
        options = [Rung(tier, None, estimates) for tier in (Tier.FULL, Tier.TRIMMED)]  # type: ignore[arg-type]
        choice = choose(options, Ask(500, 0.02, 0.022, 0.0, 1.0))
        took_s = slower * (0.0007 + 0.00002 * choice.candidates)
        if took_s <= 0.02:
            tiers.append(choice.tier)
            estimates.observe(choice.candidates, took_s, choice.estimate.p99_s)
        else:
            tiers.append(Tier.PRIOR)
            estimates.miss(choice.candidates, 0.02, choice.estimate.p99_s)
    assert set(tiers[Estimates.CANARIES :]) == {Tier.FULL if slower == 1 else Tier.TRIMMED}
