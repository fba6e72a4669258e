"""A quantile of what was seen lately."""

import math
from bisect import bisect_left, insort
from collections import deque


class Window:
    """Values of the last `span_s` seconds, at most `most`; the last `least` are kept however old they are."""

    def __init__(self, span_s: float = 2.0, least: int = 64, most: int = 512) -> None:
        self._span_s = span_s
        self._least = least
        self._most = most
        self._aged: deque[tuple[float, float]] = deque()
        self._ranked: list[float] = []

    def __len__(self) -> int:
        return len(self._ranked)

    def add(self, value: float, now_s: float) -> None:
        """Take a value in, and let go of what is too old or too much."""
        self._aged.append((now_s, value))
        insort(self._ranked, value)
        while len(self._aged) > self._most or (
            len(self._aged) > self._least and self._aged[0][0] < now_s - self._span_s
        ):
            del self._ranked[bisect_left(self._ranked, self._aged.popleft()[1])]

    def clear(self) -> None:
        """Forget everything."""
        self._aged.clear()
        self._ranked.clear()

    def quantile(self, share: float) -> float:
        """The least value that at least that share of the values do not exceed; `ValueError` without values."""
        if not self._ranked:
            raise ValueError("no values yet")
        return self._ranked[max(math.ceil(share * len(self._ranked)) - 1, 0)]

    def largest_but(self, count: int) -> float:
        """The largest value when that many larger ones are left out, or the least of all; `ValueError` without any."""
        if not self._ranked:
            raise ValueError("no values yet")
        return self._ranked[max(len(self._ranked) - 1 - count, 0)]
