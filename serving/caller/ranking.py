"""A ranking as its caller gets it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from serving.ladder.tier import Tier
from serving.rpc.pb import ranking_pb2 as pb


@dataclass(frozen=True)
class RankedAd:
    """One ad's place.

    Attributes:
        ad_id: as the caller gave it.
        probability: by task.
        expected_value: bid times the probability of the first task.
    """

    ad_id: int | str
    probability: Mapping[str, float]
    expected_value: float


@dataclass(frozen=True)
class Ranking:
    """Ranked ads, and what became of the budget.

    Attributes:
        request_id: as in the request.
        ad_ids: best first, as the caller gave them.
        expected_values: in the same order.
        probabilities: by task, in the same order.
        tier: which rung of the ladder answered.
        tier_reason: why not a better one; empty for the best.
        model_version: of the vertical's model.
        budget_ms: what the request had.
        spent_ms: what the server spent of it.
        stages_ms: by stage, in order; they sum to `spent_ms`.
        unknown_values: category values of the request that stand in no vocabulary.
    """

    request_id: str
    ad_ids: Sequence[int | str]
    expected_values: Sequence[float]
    probabilities: Mapping[str, Sequence[float]]
    tier: Tier
    tier_reason: str
    model_version: int
    budget_ms: float
    spent_ms: float
    stages_ms: Mapping[str, float]
    unknown_values: int

    @cached_property
    def ads(self) -> list[RankedAd]:
        """The ranked ads one by one."""
        rows = zip(*self.probabilities.values(), strict=True)
        return [
            RankedAd(ad, dict(zip(self.probabilities, row, strict=True)), value)
            for ad, row, value in zip(self.ad_ids, rows, self.expected_values, strict=True)
        ]


def read_ranking(response: pb.RankResponse, names: Mapping[int, int | str]) -> Ranking:
    """A response as a ranking; `names` gives the caller's own name of an ad whose key isn't it."""
    ledger = response.ledger
    return Ranking(
        request_id=response.request_id,
        ad_ids=[names.get(key, key) for key in response.ad_ids] if names else list(response.ad_ids),
        expected_values=list(response.expected_values),
        probabilities={scores.task: list(scores.probabilities) for scores in response.scores},
        tier=Tier(response.tier),
        tier_reason=response.tier_reason,
        model_version=response.model.version,
        budget_ms=ledger.budget_us / 1e3,
        spent_ms=ledger.spent_us / 1e3,
        stages_ms={stage.name: stage.duration_us / 1e3 for stage in ledger.stages},
        unknown_values=response.unknown_values,
    )
