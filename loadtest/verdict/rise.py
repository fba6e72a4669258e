"""A share that should be 0, in two runs: by how much it has risen, and whether that is sure."""

import math
from dataclasses import dataclass
from typing import Any

from loadtest.verdict.stats import Interval, wilson


@dataclass(frozen=True)
class Rise:
    """Hits and requests of the first and of the second run."""

    first: tuple[int, int]
    second: tuple[int, int]

    @property
    def difference(self) -> Interval:
        """The second share less the first, with Newcombe's interval (Statistics in Medicine 17, 1998, method 10)."""
        return self._over(1.0)

    def is_worse(self, tolerance: float, *, sure: bool = True) -> bool:
        """Whether the second share is larger by more than the tolerance; `sure`: with 95 % confidence."""
        over = self._over(1 + tolerance)
        return over.low > 0 if sure else over.value > 0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        shares = {name: hits / count for name, (hits, count) in vars(self).items()}
        return {**shares, "difference": self.difference.plain()}

    def line(self) -> str:
        """For people."""
        shares, rise = [f"{hits / count:.3%}" for hits, count in (self.first, self.second)], self.difference
        return f"{shares[0]} and {shares[1]}, {rise.value:+.3%}   {rise.low:+.3%} to {rise.high:+.3%}"

    def _over(self, factor: float) -> Interval:
        """The second share less `factor` times the first."""
        one, two = wilson(*self.first), wilson(*self.second)
        value = two.value - factor * one.value
        low = value - math.hypot(two.value - two.low, factor * (one.high - one.value))
        high = value + math.hypot(two.high - two.value, factor * (one.value - one.low))
        return Interval(value, low, high)
