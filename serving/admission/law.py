"""The interface of a control law: how much may be in flight, learned from what came of what was.

The unit is candidate-cost: seconds of service predicted for the work in flight, not a number of requests. By Little's
law, work in flight = rate at which work is done x time that it stays; so a limit is a promise about time as long as
the prediction and the rate hold, and a law's job is to notice when they don't.
"""

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sample:
    """What a law learns from one permit that ended.

    Attributes:
        latency_s: from entry to the end, in seconds.
        expected_s: the service time that had been predicted for it, without any waiting: its cost.
        in_flight_s: the cost in flight when it entered, its own included.
        dropped: whether it ended for want of capacity; `latency_s` is then how long it had been tried.

    Raises:
        ValueError: a number is negative or not finite.
    """

    latency_s: float
    expected_s: float
    in_flight_s: float
    dropped: bool = False

    def __post_init__(self) -> None:
        for name in ("latency_s", "expected_s", "in_flight_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} is {value}, not a number of seconds")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what a law may set its limit, in seconds of cost.

    Raises:
        ValueError: unless 0 < least_s <= most_s < infinity.
    """

    least_s: float
    most_s: float

    def __post_init__(self) -> None:
        if not 0 < self.least_s <= self.most_s < math.inf:
            raise ValueError(f"bounds {self.least_s} to {self.most_s} s: expected 0 < least <= most, finite")

    def clamp(self, value_s: float) -> float:
        """The nearest value within the bounds."""
        return min(max(value_s, self.least_s), self.most_s)


class Law(Protocol):
    """A limit, moved by samples alone: no clock, no I/O, no randomness, so a run can be repeated exactly."""

    @property
    def limit_s(self) -> float:
        """Seconds of cost that may be in flight now; positive and finite."""
        ...

    def update(self, sample: Sample) -> float:
        """Learn from one sample; returns the new limit. A dropped sample never raises it."""
        ...
