"""Whether anything drifts over a long run: its windows, each counted as it ends, the p99 over time, the memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from loadtest.verdict.latencies import Latencies
from loadtest.verdict.stats import Interval, ratio_interval
from loadtest.verdict.tally import Tally

ROUNDS = 300
LEAST = 3
"""Fewer windows, or readings of the memory, tell of no drift."""


@dataclass
class Drift:
    """What has been counted so far; small, however long it takes.

    Attributes:
        total: all windows as one.
        windows: latencies of each in order, encoded: a histogram at rest takes 80 times as much.
        rss_mb: of the server's processes at each window's end, where that is watched.
    """

    total: Tally
    windows: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    def enter(self, window: Tally) -> None:
        """Count the next one."""
        self.total.merge(window)
        self.windows.append(window.latencies.encoded())

    def figures(self, window_s: float) -> dict[str, Interval]:
        """`p99_drift`, of the last third of the windows over the first; `rss_mb_per_h`; each if there is enough."""
        made = {}
        third = len(self.windows) // LEAST
        if third:
            samples = _merged(self.windows[-third:]).sample_ms(), _merged(self.windows[:third]).sample_ms()
            made["p99_drift"] = ratio_interval(*samples, lambda each: float(np.percentile(each, 99)), rounds=ROUNDS)
        if len(self.rss_mb) >= LEAST:
            made["rss_mb_per_h"] = slope(self.rss_mb, window_s / 3600)
        return made


def slope(values: Sequence[float], step: float) -> Interval:
    """Least squares slope of evenly spaced values with the interval of its standard error (1.96 of them each way)."""
    x = np.arange(len(values)) * step
    fitted, covariance = np.polyfit(x, values, 1, cov="unscaled")
    rest = np.array(values) - np.polyval(fitted, x)
    half = 1.96 * math.sqrt(float(covariance[0, 0]) * float(np.sum(rest**2)) / max(len(values) - 2, 1))
    return Interval(float(fitted[0]), float(fitted[0]) - half, float(fitted[0]) + half)


def _merged(windows: Sequence[str]) -> Latencies:
    made = Latencies()
    for encoded in windows:
        made.merge(Latencies(encoded=encoded))
    return made
