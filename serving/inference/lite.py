"""The smaller model of a vertical, for tier `lite`."""

from collections.abc import Sequence
from dataclasses import replace

from serving.budget.deadline import Deadline
from serving.catalog import Vertical
from serving.errors import BackendError
from serving.inference.batcher import BatchScorer
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


class LiteBatchScorer(LiteScorer):
    """The same by way of a scorer that takes several queries at once."""

    def __init__(self, scorer: BatchScorer, model: Vertical) -> None:
        super().__init__(scorer, model)
        self._together = scorer

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> Sequence[Scores | BackendError]:
        """See `BatchScorer.score_together`."""
        return await self._together.score_together([replace(query, vertical=self._model) for query in queries], until)


def lite_scorer(scorer: Scorer, model: Vertical) -> LiteScorer:
    """One that can do what `scorer` can."""
    return LiteBatchScorer(scorer, model) if isinstance(scorer, BatchScorer) else LiteScorer(scorer, model)
