"""A server that stalls at known instants, and what its callers must have seen. Arithmetic only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stalls:
    """For `stall_s` from `every_s / 2` on and then every `every_s`, nothing is answered; else at once.

    Attributes:
        origin_s: the monotonic instant that the periods count from.
    """

    stall_s: float
    every_s: float
    origin_s: float = 0.0

    def wait_s(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """How long requests wait that arrive at monotonic instants, float64 [N]: until the stall that they hit ends."""
        into = (at_s - self.origin_s - self.every_s / 2) % self.every_s
        return np.where((into < self.stall_s) & (at_s >= self.origin_s), self.stall_s - into, 0.0)

    def next_s(self, now_s: float) -> float:
        """Start of the next stall after `now_s`; monotonic instants."""
        past = now_s - self.origin_s - self.every_s / 2
        return self.origin_s + self.every_s / 2 + max(math.floor(past / self.every_s) + 1, 0) * self.every_s


def percentile_ms(latency_s: NDArray[np.float64], percent: float) -> float:
    """The least latency that at least `percent` % kept, in milliseconds, as HdrHistogram counts it."""
    return float(np.percentile(latency_s, percent, method="inverted_cdf")) * 1e3
