"""A scorer that is a plain function, for tests, parity checks and development."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.budget.deadline import Deadline
from serving.inference.scorer import Scores, checked
from serving.query import RankQuery


class InProcessScorer:
    """Calls `function(query)`, which returns float32 [N, T]; it runs on the event loop, so it must be quick."""

    def __init__(self, function: Callable[[RankQuery], NDArray[np.float32]]) -> None:
        self._function = function

    async def score(self, query: RankQuery, until: Deadline) -> Scores:  # noqa: ARG002 the protocol's
        """Score at once, whatever the deadline."""
        return Scores(checked(self._function(query), query))
