"""What a system is asked outside a load: to warm it, to tell its speed, its answers, and whether it has settled."""

import asyncio
import contextlib
import time
from statistics import median

import numpy as np

from loadtest.checking.outcomes import Outcome
from loadtest.peers.caller import Caller, CheckedTarget, Probability

ASKED = 30
"""Requests one after the other that tell where to begin."""
ASK_S = 1.0
WARM_UP = 24
WARM_S = 2.0
ALONE_S = 10.0
"""The longest to wait for the answers that are known afterwards."""
PAUSE_S = 0.02


async def warm(target: CheckedTarget) -> None:
    """Connections, and code that has run; what comes of it counts for nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_S):
            for _ in range(3):
                sent = (target.send(index, WARM_S) for index in range(WARM_UP // 3))
                await asyncio.gather(*sent, return_exceptions=True)


async def one_by_one(caller: Caller) -> float:
    """Requests per second of a single caller that waits for each answer; the median, so that no hiccup counts."""
    return 1 / median([await _spent_s(caller, index) for index in range(ASKED)])


async def alone(caller: Caller, known: list[Probability | None]) -> None:
    """Enter the full tier's answers where none is known, one at a time; None stays where none came in `ALONE_S`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALONE_S):
            for index in range(len(known)):
                while known[index] is None:
                    known[index] = await _full(caller, index)


async def in_time(caller: Caller, index: int, budget_s: float) -> bool:
    """Whether the full tier answers within the budget; otherwise it takes at least that long to find out."""
    try:
        tier, _ = await caller.ask(index, budget_s)
    except Exception:  # refused, late or failed: not settled yet
        tier = ""
    if tier != Outcome.FULL:
        await asyncio.sleep(budget_s)
    return tier == Outcome.FULL


async def _full(caller: Caller, index: int) -> Probability | None:
    with contextlib.suppress(Exception):  # refused, late or failed: asked again
        tier, probability = await caller.ask(index, ASK_S)
        if tier == Outcome.FULL and np.isfinite(probability).all():
            return probability
    await asyncio.sleep(PAUSE_S)
    return None


async def _spent_s(caller: Caller, index: int) -> float:
    start_s = time.monotonic()
    try:
        await caller.ask(index, ASK_S)
    except Exception:  # refused, late or failed; quick as that may have been, no speed to begin with
        return ASK_S
    return time.monotonic() - start_s
