"""Open-loop load: each request is sent at its scheduled instant, whatever became of those before it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Answer = TypeVar("Answer")
Send = Callable[[int, float], Awaitable[Answer]]


@dataclass(frozen=True)
class Reply(Generic[Answer]):
    """What became of one request.

    Attributes:
        latency_s: from the *scheduled* instant to the answer, so waiting of any kind counts (no coordinated omission).
        lateness_s: how late the generator itself was in sending; it is part of `latency_s`.
        answer: the answer, or the exception that came in its place.
    """

    latency_s: float
    lateness_s: float
    answer: Answer | Exception


async def drive(
    send: Send[Answer], schedule_s: Sequence[float] | NDArray[np.float64], done: Callable[[], None] = lambda: None
) -> list[Reply[Answer]]:
    """Call `send(i, lateness_s)` at `schedule_s[i]` seconds from now for every i; replies in the schedule's order.

    Args:
        send: starts request i, told how late it is, and returns its answer; an `Exception` that it raises becomes the
            reply's answer.
        schedule_s: increasing instants in seconds.
        done: called once per reply, for a progress bar.
    """
    start_s = time.monotonic()
    tasks = []
    for index, at_s in enumerate(schedule_s):
        scheduled_s = start_s + float(at_s)
        await asyncio.sleep(max(scheduled_s - time.monotonic(), 0.0))
        tasks.append(asyncio.create_task(_one(send, index, scheduled_s, done)))
    return list(await asyncio.gather(*tasks))


async def _one(send: Send[Answer], index: int, scheduled_s: float, done: Callable[[], None]) -> Reply[Answer]:
    lateness_s = time.monotonic() - scheduled_s
    answer: Answer | Exception
    try:
        answer = await send(index, lateness_s)
    except Exception as error:  # a reply like any other: the caller decides what it is worth
        answer = error
    latency_s = time.monotonic() - scheduled_s
    done()
    return Reply(latency_s, lateness_s, answer)
