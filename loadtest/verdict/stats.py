"""How sure a figure is: intervals for shares, quantiles and ratios, without assumptions on how latencies spread."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_FACTORIAL_TERMS = 2_000_000
"""Up to so many trials the binomial distribution is summed exactly; beyond, the normal one stands for it."""


@dataclass(frozen=True)
class Interval:
    """A figure and where the truth lies with the confidence asked for; infinite or 0 where the sample can't say."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float | None]:
        """For JSON, which knows no infinity."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


def wilson(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The share of hits with Wilson's score interval (JASA 22, 1927), which stays sound near 0 and 1.

    Raises:
        ValueError: not 0 <= hits <= count with count > 0.
    """
    if not 0 <= hits <= count or not count:
        raise ValueError(f"a share needs 0 <= hits <= count and count > 0, got {hits} of {count}")
    z = _z(confidence)
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low = 0.0 if hits == 0 else max(middle - half, 0.0)
    return Interval(share, low, 1.0 if hits == count else min(middle + half, 1.0))


def quantile_ranks(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Ranks (1 is the least value) of the order statistics that enclose a quantile.

    The number of values below the true quantile is binomial, whatever the distribution (Hahn and Meeker, Statistical
    Intervals, section 5.2). Rank 0 or count + 1 says that the sample is too small to bound that side.
    """
    if count > _FACTORIAL_TERMS:
        half = _z(confidence) * math.sqrt(count * share * (1 - share))
        low, high = math.floor(count * share - half), math.ceil(count * share + half) + 1
    else:
        below = _binomial_cdf(count, share)
        tail = (1 - confidence) / 2
        low = int(np.searchsorted(below, tail, side="right"))
        high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return max(low, 0), min(high, count + 1)


def needed_for(share: float, confidence: float = CONFIDENCE) -> int:
    """How many values a sample must have for the upper bound of that quantile to exist."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(share))


def ratio_interval(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    figure: Callable[[NDArray[np.float64]], float],
    *,
    rounds: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """`figure(first) / figure(second)` with the percentile bootstrap's interval (Efron 1979).

    Args:
        first, second: the two samples, not empty; each is drawn anew with replacement.
        figure: of one sample; it must not be 0 for the second.
        rounds: how often to draw.
        seed: of the draws.
        confidence: of the interval.
    """
    draw = np.random.default_rng(seed)
    ratios = [figure(draw.choice(first, len(first))) / figure(draw.choice(second, len(second))) for _ in range(rounds)]
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Interval(figure(first) / figure(second), float(low), float(high))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _binomial_cdf(count: int, share: float) -> NDArray[np.float64]:
    """P(X <= k) for k from 0 to count."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    k = np.arange(count + 1)
    log_mass = logs[-1] - logs - logs[::-1] + k * math.log(share) + (count - k) * math.log1p(-share)
    return np.cumsum(np.exp(log_mass))
