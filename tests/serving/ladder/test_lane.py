from collections.abc import Callable
from typing import Any

import pytest

from serving.admission.gate import Gate
from serving.budget.estimates import Estimates
from serving.errors import OverloadedError
from serving.ladder.lane import Lane, Rung, Want, best_offer
from serving.ladder.tier import Reason, Tier

MakeGate = Callable[..., Gate]
WANT = Want(candidates=64, scores_s=0.02, answer_s=0.021, fewest=16)


class Trust:
    def __init__(self) -> None:
        self.given = True

    def __call__(self) -> bool:
        return self.given


@pytest.fixture
def make_lane(make_gate: MakeGate, scripted: Any) -> Callable[..., Lane]:
    """`make_lane(name, service_s=0.002, busy_s=0.0)`: a lane with tiers full and trimmed, and that much work in it."""

    def make(name: str, service_s: float = 0.002, busy_s: float = 0.0, limit_s: float = 1.0) -> Lane:
        scorer, estimates, trust = scripted(), Estimates(64, service_s), Trust()
        gate = make_gate(limit_s)
        if busy_s:
            held.append(gate.try_enter(busy_s))
        return Lane(name, tuple(Rung(tier, scorer, estimates, trust) for tier in (Tier.FULL, Tier.TRIMMED)), gate)

    held: list[Any] = []
    return make


def _distrust(lane: Lane) -> None:
    for rung in lane.rungs:
        assert isinstance(rung.trusted, Trust)
        rung.trusted.given = False


def _backend(lanes: list[Lane], want: Want = WANT) -> str:
    offer = best_offer(lanes, want)
    return offer.lane.backend if offer.lane else ""


def test_the_least_work_ahead_wins_among_equals(make_lane: Callable[..., Lane]) -> None:
    lanes = [make_lane("a", busy_s=0.006), make_lane("b", busy_s=0.002), make_lane("c", busy_s=0.004)]
    assert _backend(lanes) == "b"


def test_a_faster_backend_may_have_more_ahead(make_lane: Callable[..., Lane]) -> None:
    # Seeded p99s are twice the mean: 8 ms with nothing ahead against 3 + 4 ms.
    assert _backend([make_lane("slow", 0.004), make_lane("fast", 0.002, busy_s=0.003)]) == "fast"
    assert _backend([make_lane("slow", 0.004), make_lane("fast", 0.002, busy_s=0.005)]) == "slow"


def test_a_better_tier_goes_before_an_earlier_finish(make_lane: Callable[..., Lane]) -> None:
    lanes = [make_lane("quick", 0.012, busy_s=0.004), make_lane("whole", 0.004, busy_s=0.010)]
    offer = best_offer(lanes, WANT)
    assert (offer.choice.tier, offer.lane) == (Tier.FULL, lanes[1])


def test_an_untrusted_backend_is_passed_over_whatever_its_finish(make_lane: Callable[..., Lane]) -> None:
    lanes = [make_lane("idle"), make_lane("busy", busy_s=0.006)]
    _distrust(lanes[0])
    assert _backend(lanes) == "busy"


def test_without_any_trust_the_prior_is_offered_with_its_reason(make_lane: Callable[..., Lane]) -> None:
    lanes = [make_lane("a"), make_lane("b")]
    for lane in lanes:
        _distrust(lane)
    offer = best_offer(lanes, WANT)
    assert (offer.choice.tier, offer.choice.reason, offer.lane) == (Tier.PRIOR, Reason.BACKEND_UNAVAILABLE, None)


def test_too_much_work_everywhere_is_the_priors(make_lane: Callable[..., Lane]) -> None:
    offer = best_offer([make_lane("a", busy_s=0.03), make_lane("b", busy_s=0.05)], WANT)
    assert (offer.choice.tier, offer.choice.reason, offer.lane) == (Tier.PRIOR, Reason.WORK_AHEAD, None)


def test_a_shed_advises_the_shortest_wait(make_lane: Callable[..., Lane]) -> None:
    lanes = [make_lane("a", busy_s=0.05), make_lane("b", busy_s=0.02)]
    with pytest.raises(OverloadedError) as caught:
        best_offer(lanes, Want(64, -0.001, 0.0, 16))
    assert caught.value.pushback_ms == 20


def test_what_failed_is_not_offered_again(make_lane: Callable[..., Lane]) -> None:
    lane = make_lane("a")
    full, trimmed = lane.rungs
    assert lane.below(full).rungs == (trimmed,)
    assert lane.without(full).rungs == ()
    assert lane.stand_in(Tier.TRIMMED) is trimmed
    assert lane.stand_in(Tier.LITE) is None
    _distrust(lane)
    assert lane.stand_in(Tier.TRIMMED) is None
