"""The smaller model of a vertical, for tier `lite`."""

from dataclasses import replace

from serving.budget.deadline import Deadline
from serving.catalog import Vertical
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery


class LiteScorer:
    """Puts a query for the full model to the lite one; both take the same tensors and predict the same tasks."""

    def __init__(self, scorer: Scorer, model: Vertical) -> None:
        """Ask `model`, a vertical's `lite`, by way of `scorer`, which asks whatever model a query names."""
        self._scorer = scorer
        self._model = model

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`."""
        return await self._scorer.score(replace(query, vertical=self._model), until)
