"""What the ladder asks of a model, wherever it runs."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.budget.deadline import Deadline
from serving.errors import BadScoresError
from serving.query import RankQuery


@dataclass(frozen=True)
class Scores:
    """What a model said of one request.

    Attributes:
        probability: float32 [N, T], finite, candidates in the request's order and tasks in the vertical's.
        unknown: how many of the request's category values stand in no vocabulary.
    """

    probability: NDArray[np.float32]
    unknown: int = 0


class Scorer(Protocol):
    """Scores requests of one vertical. Wrappers (a guard, a breaker, a balancer) are scorers too."""

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """Score every candidate before `until`.

        Cancelling the call must release whatever it holds, the backend's work included, without waiting for anything.

        Raises:
            LateError: the scores can't be there in time.
            BusyError: the backend lives but has no room.
            UnavailableError: the backend can't be reached.
            BadScoresError: what came back isn't one finite probability per candidate and task.
        """
        ...


def checked(probability: NDArray[np.float32], query: RankQuery) -> NDArray[np.float32]:
    """The scores themselves, if they are one finite probability per candidate and task; else `BadScoresError`."""
    wanted = (len(query), len(query.vertical.tasks))
    if probability.shape != wanted:
        raise BadScoresError(f"{query.vertical.name}: scores are {list(probability.shape)}, not {list(wanted)}")
    # Where there is a NaN, it is both the least and the greatest, and fails both comparisons.
    if not (probability.min() >= 0 and probability.max() <= 1):
        raise BadScoresError(f"{query.vertical.name}: a score is not a probability")
    return probability
