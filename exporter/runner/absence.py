"""An instance whose whole process was started in the idle class, beside another version, and how it comes back.

Whoever starts it so (`serving/embedded/start_stub.sh`) has made sure that it can, and looks for this file first: a
version without it would stay there for good.
"""

import os
from collections.abc import Mapping
from typing import Any, Self


class Absence:
    """From the process's start to the last request that Triton warms the instance up with."""

    def __init__(self, warm_ups: int) -> None:
        """`warm_ups`: how many of those requests are still to come."""
        self._left = warm_ups

    @classmethod
    def begun(cls, model_config: Mapping[str, Any]) -> Self | None:
        """None where this process takes its turns, or does so from now on since there is nothing to warm up.

        Args:
            model_config: as Triton gives it to the instance.

        Raises:
            OSError: the system forbids the way back; the version must not serve.
        """
        if os.sched_getscheduler(0) != os.SCHED_IDLE:
            return None
        come_back()  # also where it is too early: what can't come back must not serve
        left = warm_ups(model_config)
        if not left:
            return None
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return cls(left)

    def after(self, requests: int) -> Self | None:
        """What is left of it once so many warm-ups were answered; None: it is over, all threads take their turns."""
        self._left -= requests
        if self._left > 0:
            return self
        come_back()
        return None


def warm_ups(model_config: Mapping[str, Any]) -> int:
    """How many requests of its own Triton sends to each instance before it is ready."""
    return sum(int(sample.get("count", 0)) or 1 for sample in model_config.get("model_warmup", ()))


def come_back() -> None:
    """All threads of this process take their turns again."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))
