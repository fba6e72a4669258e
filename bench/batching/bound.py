"""A fixed number of requests in flight, where the product has its gate."""

from serving.budget.deadline import Deadline
from serving.errors import BusyError
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery


class BoundedScorer:
    """A scorer behind a fixed number of requests in flight; `BusyError` for what finds no room."""

    def __init__(self, inner: Scorer, most: int) -> None:
        self._inner = inner
        self._most = most
        self._inside = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `Scorer.score`."""
        if self._inside >= self._most:
            raise BusyError(f"{self._most} requests are in flight")
        self._inside += 1
        try:
            return await self._inner.score(query, until)
        finally:
            self._inside -= 1
