"""A system as the generator sees it: scores for a request, held to the same conditions whoever answers."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import Outcome
from loadtest.driving.target import Reply

Probability = NDArray[np.float32]
CONNECTIONS = 4
"""To each system that is called over gRPC, ours or not; over HTTP as many as are needed at once."""
CHANNEL: list[tuple[str, Any]] = [
    ("grpc.enable_retries", 0),
    # Each channel a connection of its own, so that worker processes on one port all get some.
    ("grpc.use_local_subchannel_pool", 1),
]
WRONG_SCORES = "not the model's scores for this request"
OFF = 1e-3
"""How far a score may be off the known one, absolute: engines round differently."""


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
    """A caller under load: each answer must hold one probability per candidate and task, and none but the right ones.

    Right is what the model scores: all systems that serve the same model are held to the same answers, see `known`, and
    what joins requests must not mix them up. Answers of lesser tiers have other scores by design.
    """

    def __init__(
        self,
        caller: Caller,
        shapes: Sequence[tuple[int, int]],
        known: Sequence[Probability | None] = (),
        off: float = OFF,
    ) -> None:
        """`shapes` are the answers' (candidates, tasks) by request, `known` the full tier's, if known."""
        self._caller = caller
        self._shapes = shapes
        self._known = known or [None] * len(shapes)
        self._off = off

    async def send(self, index: int, timeout_s: float) -> Reply:
        """See `loadtest.driving.target.Target.send`."""
        try:
            tier, probability = await self._caller.ask(index, timeout_s)
        except RefusedError as error:
            return Reply(False, Outcome.SHED, str(error))
        except TimeoutError:
            return Reply(False, Outcome.UNANSWERED, "no answer in time")
        at = index % len(self._shapes)
        fault = fault_of(probability, self._shapes[at]) or ("" if tier else "no known tier")
        if not fault and tier == Outcome.FULL and (known := self._known[at]) is not None:
            fault = WRONG_SCORES if float(np.abs(probability - known).max()) > self._off else ""
        return Reply(False, Outcome.WRONG, fault) if fault else Reply(True, tier)


def fault_of(probability: Probability, shape: tuple[int, int]) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if probability.shape != shape:
        return f"scores are {list(probability.shape)}, not {list(shape)}"
    # NaN fails both comparisons.
    if not bool(np.all((probability >= 0) & (probability <= 1))):
        return "a score is not a probability"
    return ""
