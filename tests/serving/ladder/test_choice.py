from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.estimates import Estimate
from serving.errors import OverloadedError
from serving.ladder.choice import Ask, Queue, choose
from serving.ladder.tier import FORESEEN, Reason, Tier


@dataclass(frozen=True)
class Linear:
    """A millisecond per hundred candidates, a millisecond besides, and as much again in the worst percent."""

    per_candidate_s: float = 1e-5
    base_s: float = 0.001

    def predict(self, candidates: int) -> Estimate:
        mean_s = self.per_candidate_s * candidates + self.base_s
        return Estimate(mean_s, 2 * mean_s, 1.5 * mean_s)

    def most(self, p99_s: float, mean_s: float) -> int:
        return max(int((min(p99_s / 2, mean_s) - self.base_s) / self.per_candidate_s), 0)


@dataclass(frozen=True)
class Option:
    tier: Tier
    estimates: Linear = Linear()
    queue: Queue | None = None


FULL, TRIMMED = Option(Tier.FULL), Option(Tier.TRIMMED)
LITE = Option(Tier.LITE, Linear(1e-6, 0.0005))
ASK = Ask(candidates=500, scores_s=0.020, answer_s=0.022, ahead_s=0.001, room_s=1.0)


def test_the_best_tier_that_is_in_time() -> None:
    choice = choose((FULL, TRIMMED, LITE), ASK)
    assert (choice.tier, choice.reason, choice.place, choice.candidates) == (Tier.FULL, Reason.NONE, 0, 500)
    assert choice.estimate == Linear().predict(500)


@pytest.mark.parametrize(
    ("changed", "tier", "reason", "candidates"),
    [
        # 12 ms for all, 11 ms are left: 450 candidates.
        ({"ahead_s": 0.009}, Tier.TRIMMED, Reason.WORK_AHEAD, 450),
        ({"ahead_s": 0.0177}, Tier.LITE, Reason.WORK_AHEAD, 500),
        ({"ahead_s": 0.0199}, Tier.PRIOR, Reason.WORK_AHEAD, 0),
        ({"scores_s": 0.010}, Tier.TRIMMED, Reason.TOO_SLOW, 350),
        ({"scores_s": -0.001}, Tier.PRIOR, Reason.NO_TIME, 0),
        # Nothing ahead: the mean of 6 ms decides.
        ({"ahead_s": 0.0, "scores_s": 0.007}, Tier.FULL, Reason.NONE, 500),
    ],
)
def test_why_not_better(changed: dict[str, float], tier: Tier, reason: Reason, candidates: int) -> None:
    choice = choose((FULL, TRIMMED, LITE), replace(ASK, **changed))  # type: ignore[arg-type]  # only floats are changed
    assert (choice.tier, choice.reason, choice.candidates) == (tier, reason, candidates)


class Wait:
    """A queue of our own that knows the wait of who has 20 ms."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def ahead_s(self, within_s: float = 0.0, candidates: int = 0) -> float:
        assert (within_s, candidates) in {(ASK.scores_s, ASK.candidates), (ASK.scores_s, 1800)}
        return self._ahead_s


def test_an_option_with_a_queue_of_its_own_waits_there() -> None:
    # 9 ms of p90 for all, 12 of p99.
    assert choose((replace(FULL, queue=Wait(0.0109)), TRIMMED, LITE), ASK).tier is Tier.FULL
    late = choose((replace(FULL, queue=Wait(0.0111)), TRIMMED, LITE), ASK)
    assert (late.tier, late.reason) == (Tier.TRIMMED, Reason.WORK_AHEAD)
    assert choose((FULL, TRIMMED), replace(ASK, ahead_s=0.0109)).tier is Tier.TRIMMED
    choice = choose((replace(FULL, queue=Wait(0.002)), LITE), replace(ASK, ahead_s=0.019))
    assert (choice.tier, choice.ahead_s) == (Tier.FULL, 0.002)
    # A call may begin at once: the mean decides, whatever else the backend has to do.
    free = choose((replace(FULL, queue=Wait(0.0)),), replace(ASK, ahead_s=0.019, candidates=1800))
    assert (free.tier, free.ahead_s) == (Tier.FULL, 0.0)


def test_the_room_keeps_the_trimmed_tier_small() -> None:
    choice = choose((TRIMMED,), replace(ASK, room_s=0.002))
    assert (choice.tier, choice.candidates) == (Tier.TRIMMED, 100)


def test_a_few_candidates_are_never_trimmed_to_fewer() -> None:
    few = replace(ASK, candidates=10, ahead_s=0.0185)
    assert choose((FULL, TRIMMED), few).tier is Tier.PRIOR
    assert choose((TRIMMED,), replace(few, ahead_s=0.001)).candidates == 10


def test_too_late_for_anything_is_shed_until_the_work_ahead_is_done() -> None:
    with pytest.raises(OverloadedError) as caught:
        choose((FULL,), replace(ASK, answer_s=-0.002, ahead_s=0.010))
    assert caught.value.pushback_ms == 12


@given(
    st.builds(
        Ask,
        st.integers(1, 5000),
        st.floats(-0.01, 0.1),
        st.floats(1e-6, 0.1),
        st.floats(0, 0.1),
        st.floats(-0.01, 0.1),
        st.integers(1, 64),
    )
)
def test_whatever_is_chosen_is_predicted_in_time_and_explained(ask: Ask) -> None:
    choice = choose((FULL, TRIMMED, LITE), ask)
    assert (choice.tier is Tier.FULL) == (choice.reason is Reason.NONE)
    assert choice.reason in FORESEEN | {Reason.NONE, Reason.NO_TIME}
    if choice.tier is Tier.PRIOR:
        return
    service_s = choice.estimate.p99_s if ask.ahead_s else choice.estimate.mean_s
    assert ask.ahead_s + service_s <= ask.scores_s + 1e-9
    assert min(ask.fewest, ask.candidates) <= choice.candidates <= ask.candidates
