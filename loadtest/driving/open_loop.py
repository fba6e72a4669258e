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
        scheduled_s: the scheduled instant on the monotonic clock.
    """

    latency_s: float
    lateness_s: float
    answer: Answer | Exception
    scheduled_s: float = 0.0


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
    replies: dict[int, Reply[Answer]] = {}
    # Only what is under way is held, so that hours of load don't pile up finished tasks.
    under_way: set[asyncio.Task[None]] = set()

    async def one(index: int, scheduled_s: float) -> None:
        replies[index] = await _one(send, index, scheduled_s)
        done()

    for index, at_s in enumerate(schedule_s):
        scheduled_s = start_s + float(at_s)
        await asyncio.sleep(max(scheduled_s - time.monotonic(), 0.0))
        task = asyncio.create_task(one(index, scheduled_s))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return [replies[index] for index in range(len(schedule_s))]


async def _one(send: Send[Answer], index: int, scheduled_s: float) -> Reply[Answer]:
    lateness_s = time.monotonic() - scheduled_s
    answer: Answer | Exception
    try:
        answer = await send(index, lateness_s)
    except Exception as error:  # a reply like any other: the caller decides what it is worth
        answer = error
    return Reply(time.monotonic() - scheduled_s, lateness_s, answer, scheduled_s)
