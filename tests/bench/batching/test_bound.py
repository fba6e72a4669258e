"""The bound that stands for the gate."""

import asyncio
from typing import Any

import numpy as np
import pytest

from bench.batching.bound import BoundedScorer
from serving.budget.deadline import Deadline
from serving.errors import BusyError
from serving.inference.scorer import Scores


class _Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def score(self, *_: Any) -> Scores:
        await self.gate.wait()
        return Scores(np.zeros((1, 1), np.float32))


async def test_a_bound_refuses_what_finds_no_room_and_lets_the_next_in() -> None:
    inner, query, until = _Slow(), Any, Deadline.after(1.0)
    bounded = BoundedScorer(inner, 1)
    first = asyncio.create_task(bounded.score(query, until))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await bounded.score(query, until)  # type: ignore[arg-type]
    inner.gate.set()
    await first
    await bounded.score(query, until)  # type: ignore[arg-type]
