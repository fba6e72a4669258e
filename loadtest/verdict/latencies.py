"""Latencies of any number of requests in an HdrHistogram: three digits, mergeable, small enough for a result file."""

import math
from collections.abc import Iterable

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from loadtest.verdict.stats import Interval, quantile_ranks

LEAST_US = 1
MOST_US = 600_000_000
"""Ten minutes; what takes longer counts as this."""
DIGITS = 3


class Latencies:
    """A histogram of latencies in whole microseconds, read in milliseconds."""

    def __init__(self, latencies_s: Iterable[float] = (), encoded: str = "") -> None:
        """Start from latencies in seconds, or from what `encoded` gave.

        Raises:
            ValueError: the text is no such histogram.
        """
        self._histogram = _decoded(encoded) if encoded else HdrHistogram(LEAST_US, MOST_US, DIGITS)
        self.add(latencies_s)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def add(self, latencies_s: Iterable[float]) -> None:
        """Enter latencies in seconds; an early clock reading below 1 us counts as 1 us."""
        for latency_s in latencies_s:
            self._histogram.record_value(min(max(round(latency_s * 1e6), LEAST_US), MOST_US))

    def merge(self, other: "Latencies") -> None:
        """Enter all of another."""
        self._histogram.add(other._histogram)

    def percentile_ms(self, percent: float) -> float:
        """The least latency that at least `percent` % of the requests kept; 0 for no request."""
        # The histogram rounds a rank to the nearest; for few requests that may be one too low.
        return self._ranked_ms(max(math.ceil(len(self) * percent / 100 - 1e-6), 1)) if len(self) else 0.0

    def interval_ms(self, percent: float) -> Interval:
        """A percentile with the bounds that order statistics give; see `stats.quantile_ranks`."""
        count = len(self)
        low, high = quantile_ranks(count, percent / 100)
        return Interval(
            self.percentile_ms(percent),
            self._ranked_ms(low) if low >= 1 else 0.0,
            self._ranked_ms(high) if high <= count else float("inf"),
        )

    def sample_ms(self, most: int = 20_000) -> NDArray[np.float64]:
        """As many latencies as there are, or that many at even ranks, float64 increasing, for the bootstrap."""
        values, counts = [], []
        for item in self._histogram.get_recorded_iterator():
            values.append(item.value_iterated_to / 1e3)
            counts.append(item.count_at_value_iterated_to)
        every = np.repeat(np.array(values, np.float64), np.array(counts, np.int64))
        return every if len(every) <= most else every[np.linspace(0, len(every) - 1, most).astype(np.int64)]

    def encoded(self) -> str:
        """As text in HdrHistogram's own compressed format, which other tools read, too."""
        text = self._histogram.encode()
        return text.decode() if isinstance(text, bytes) else str(text)

    def _ranked_ms(self, rank: int) -> float:
        return float(self._histogram.get_value_at_percentile(100.0 * rank / len(self))) / 1e3


def _decoded(text: str) -> HdrHistogram:
    try:
        return HdrHistogram.decode(text)
    except Exception as error:  # its decoder raises whatever the damage leads to
        raise ValueError(f"not an encoded HdrHistogram: {error}") from error
