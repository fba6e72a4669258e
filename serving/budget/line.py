"""A straight line through what was seen lately: seconds of service by number of candidates."""

import math
from collections.abc import Sequence

Point = tuple[float, float]
"""Candidates, and seconds of service."""


class Line:
    """Least squares of `slope * x + base` over points that are forgotten exponentially, both never negative.

    A point's weight falls by a hundredth with each later point, or by the time constant where points are rare. Two
    fixed points of weight one, `low` and `high`, say what is not known from measurement: the share of the base while
    every call has the same size.
    """

    PER_POINT = 0.99
    FADE_S = 0.5

    def __init__(self, low: Point, high: Point) -> None:
        self._seen_s = -math.inf
        self.reseed(low, high)

    def reseed(self, low: Point, high: Point) -> None:
        """Replace the fixed points, of different x, and forget everything else."""
        self._sums = [0.0] * 5
        self.fix(low, high)

    def fix(self, low: Point, high: Point) -> None:
        """Replace the fixed points alone."""
        self._fixed = _terms(*low, _terms(*high, (0.0,) * 5))
        self._solve()

    def add(self, x: float, y: float, now_s: float) -> None:
        """Take a point in."""
        keep = min(self.PER_POINT, math.exp(min(0.0, self._seen_s - now_s) / self.FADE_S))
        self._seen_s = now_s
        self._sums = _terms(x, y, [keep * total for total in self._sums])
        self._solve()

    def at(self, x: float) -> float:
        """The line's height."""
        return self.slope * x + self.base

    def _solve(self) -> None:
        count, x, y, xx, xy = [a + b for a, b in zip(self._fixed, self._sums, strict=True)]
        slope = (count * xy - x * y) / (count * xx - x * x)
        base = (y - slope * x) / count
        if slope < 0:
            slope, base = 0.0, y / count
        elif base < 0:
            slope, base = xy / xx, 0.0
        self.slope, self.base = max(slope, 0.0), max(base, 0.0)


def _terms(x: float, y: float, to: Sequence[float]) -> list[float]:
    return [old + new for old, new in zip(to, (1.0, x, y, x * x, x * y), strict=True)]
