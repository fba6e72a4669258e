"""Where time comes from; tests bring their own."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a monotonic scale. The event loop's timers must run on the same scale."""

MONOTONIC: Clock = time.monotonic

WallClock = Callable[[], int]
"""Milliseconds since the epoch: events carry the time of day, unlike everything that measures."""


def wall_ms() -> int:
    """The time of day, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
