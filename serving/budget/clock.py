"""Where time comes from; tests bring their own."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a monotonic scale. The event loop's timers must run on the same scale."""

MONOTONIC: Clock = time.monotonic
