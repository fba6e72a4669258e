import pytest

from loadtest.open_loop import Reply
from loadtest.summary import summarise
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
