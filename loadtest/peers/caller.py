"""A system as the generator sees it: scores for a request, held to the same conditions whoever answers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import Outcome
from loadtest.driving.target import Reply

Probability = NDArray[np.float32]


class RefusedError(RuntimeError):
    """The system refused to serve this request: it is full. The refusal came instead of scores."""


class Caller(Protocol):
    """Asks one system; it holds the requests in that system's own form. Made and used on one event loop."""

    async def ask(self, index: int, timeout_s: float) -> tuple[str, Probability]:
        """Scores of request `index` (wrapping round), float32 [N, T] in the request's order, and the tier they are of.

        Raises:
            RefusedError: the system is full and said so.
            TimeoutError: no answer within `timeout_s`.
            Exception: anything else is a failed call.
        """

    async def close(self) -> None:
        """Close all connections."""


class CheckedTarget:
    """A caller under load: each answer must hold one probability per candidate and task."""

    def __init__(self, caller: Caller, shapes: Sequence[tuple[int, int]]) -> None:
        """`shapes` are the answers' (candidates, tasks) by request."""
        self._caller = caller
        self._shapes = shapes

    async def send(self, index: int, timeout_s: float) -> Reply:
        """See `loadtest.driving.target.Target.send`."""
        try:
            tier, probability = await self._caller.ask(index, timeout_s)
        except RefusedError as error:
            return Reply(False, Outcome.SHED, str(error))
        except TimeoutError:
            return Reply(False, Outcome.UNANSWERED, "no answer in time")
        fault = fault_of(probability, self._shapes[index % len(self._shapes)]) or ("" if tier else "no known tier")
        return Reply(False, Outcome.WRONG, fault) if fault else Reply(True, tier)


def fault_of(probability: Probability, shape: tuple[int, int]) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if probability.shape != shape:
        return f"scores are {list(probability.shape)}, not {list(shape)}"
    # NaN fails both comparisons.
    if not bool(np.all((probability >= 0) & (probability <= 1))):
        return "a score is not a probability"
    return ""
