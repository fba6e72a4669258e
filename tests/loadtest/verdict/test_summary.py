import pytest

from loadtest.driving.open_loop import Reply
from loadtest.verdict.summary import summarise
from serving.client import Ranking, Tier, UnreachableError


def ranking(tier: Tier) -> Ranking:
    return Ranking("", [1], [0.5], {"click": [0.5]}, tier, "", 1, 25.0, 2.0, {"score": 2.0}, 0)


def test_only_answers_inside_the_budget_count_as_such() -> None:
    replies: list[Reply[Ranking]] = [
        Reply(0.010, 0.001, ranking(Tier.FULL)),
        Reply(0.024, 0.001, ranking(Tier.PRIOR)),
        Reply(0.026, 0.001, ranking(Tier.FULL)),
        Reply(0.002, 0.001, UnreachableError("gone")),
    ]
    summary = summarise(replies, budget_ms=25.0)
    assert summary.requests == 4
    assert summary.within_budget == 0.5
    assert summary.by_tier == {"UnreachableError": 0.25, "full": 0.5, "prior": 0.25}
    assert summary.p50_ms == pytest.approx(17.0)
    assert summary.generator_late_p99_ms == pytest.approx(1.0)


def test_each_answer_is_held_against_its_own_budget() -> None:
    replies: list[Reply[Ranking]] = [Reply(0.030, 0.001, ranking(Tier.FULL)) for _ in range(4)]
    summary = summarise(replies, [25.0, 40.0, 30.0, 29.0])
    assert summary.within_budget == 0.5
    assert summary.budget_ms == 40.0
    with pytest.raises(ValueError, match="3 budgets for 4 replies"):
        summarise(replies, [1.0, 2.0, 3.0])
