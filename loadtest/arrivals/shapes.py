"""How the offered rate moves over a run: steady, ramp, spike, overload, bursty. Arithmetic only.

The command line and locust take their shapes from here, so that both mean the same by a name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

OVERLOAD_MULTIPLES = (1.0, 2.0, 5.0, 10.0, 1.0)
RAMP = (0.1, 2.0)
SPIKE = 10.0
BURST = 4.0
"""A burst's rate over the mean."""
BURST_SHARE = 0.15
"""The share of time that is burst; what is left of the mean falls into the rest."""
BURST_MEAN_S = 0.5


@dataclass(frozen=True)
class Profile:
    """A rate over time, linear between points.

    Attributes:
        at_s: float64 [P], not decreasing, from 0; two points at one instant make a step.
        rate_rps: float64 [P], >= 0, positive somewhere.
        name: which shape it is.
    """

    at_s: NDArray[np.float64]
    rate_rps: NDArray[np.float64]
    name: str = ""

    def __post_init__(self) -> None:
        if len(self.at_s) < 2 or self.at_s[0] != 0 or (np.diff(self.at_s) < 0).any() or not self.seconds > 0:
            raise ValueError("a profile needs two or more instants that start at 0 and don't decrease")
        if (self.rate_rps < 0).any() or not np.isfinite(self.rate_rps).all() or not self.expected > 0:
            raise ValueError("a profile's rates must be finite and >= 0, and positive somewhere")

    @property
    def seconds(self) -> float:
        """Length of the run."""
        return float(self.at_s[-1])

    @property
    def expected(self) -> float:
        """Expected number of arrivals."""
        return float(self._so_far[-1])

    @property
    def mean_rps(self) -> float:
        """Mean rate over the whole run."""
        return self.expected / self.seconds

    def rate_at(self, at_s: float) -> float:
        """Requests per second at an instant; after a step where one stands, 0 beyond the end."""
        if not 0 <= at_s < self.seconds:
            return 0.0
        after = int(np.searchsorted(self.at_s, at_s, side="right"))
        left, right = self.at_s[after - 1], self.at_s[after]
        part = (at_s - left) / (right - left)
        return float(self.rate_rps[after - 1] + part * (self.rate_rps[after] - self.rate_rps[after - 1]))

    def instant_of(self, count: NDArray[np.float64]) -> NDArray[np.float64]:
        """When `count` arrivals, float64 [N] within 0 to `expected`, are to be expected; exact on each linear piece."""
        piece = np.clip(np.searchsorted(self._so_far, count, side="right") - 1, 0, len(self.at_s) - 2)
        width = np.diff(self.at_s)[piece]
        first, slope = self.rate_rps[piece], np.diff(self.rate_rps)[piece] / np.where(width > 0, width, 1.0)
        left = np.maximum(count - self._so_far[piece], 0.0)
        # The root of first*t + slope/2*t^2 = left in the form that neither a zero slope nor a zero rate upsets.
        root = first + np.sqrt(np.maximum(first**2 + 2 * slope * left, 0.0))
        past = np.divide(2 * left, root, out=np.zeros_like(left), where=root > 0)
        return np.asarray(self.at_s[piece] + np.minimum(past, width), np.float64)

    @cached_property
    def _so_far(self) -> NDArray[np.float64]:
        areas = np.diff(self.at_s) * (self.rate_rps[1:] + self.rate_rps[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(areas)])


def steady(rate_rps: float, seconds: float, _: int = 0) -> Profile:
    """One rate."""
    return _profile("steady", [(0.0, rate_rps), (seconds, rate_rps)])


def ramp(rate_rps: float, seconds: float, _: int = 0) -> Profile:
    """From a tenth of the rate to twice the rate, in a straight line."""
    low, high = RAMP
    return _profile("ramp", [(0.0, low * rate_rps), (seconds, high * rate_rps)])


def spike(rate_rps: float, seconds: float, _: int = 0) -> Profile:
    """The rate; ten times as much for the fifth of the run that starts at two fifths; the rate again."""
    return steps("spike", [(0.4 * seconds, rate_rps), (0.2 * seconds, SPIKE * rate_rps), (0.4 * seconds, rate_rps)])


def overload(rate_rps: float, seconds: float, _: int = 0) -> Profile:
    """Once, twice, five and ten times the rate, then once again, a fifth of the run each."""
    each_s = seconds / len(OVERLOAD_MULTIPLES)
    return steps("overload", [(each_s, multiple * rate_rps) for multiple in OVERLOAD_MULTIPLES])


def bursty(rate_rps: float, seconds: float, seed: int = 0) -> Profile:
    """Bursts of four times the rate and lulls between them, of random lengths, with the rate as their exact mean.

    A Poisson process modulated by two states (MMPP); its mean is set exactly, so that it compares with `steady`.
    """
    draw = np.random.default_rng(seed)
    low = (1 - BURST * BURST_SHARE) / (1 - BURST_SHARE)
    pieces: list[tuple[float, float]] = []
    while sum(length for length, _ in pieces) < seconds or len(pieces) < 4:
        pieces.append((draw.exponential(BURST_MEAN_S * (1 - BURST_SHARE) / BURST_SHARE), low))
        pieces.append((draw.exponential(BURST_MEAN_S), BURST))
    scale = seconds / sum(length for length, _ in pieces)
    mean = sum(length * scale * rate for length, rate in pieces) / seconds
    return steps("bursty", [(length * scale, rate_rps * rate / mean) for length, rate in pieces])


def steps(name: str, pieces: Sequence[tuple[float, float]]) -> Profile:
    """Constant rates one after the other: (seconds, requests per second) each."""
    points: list[tuple[float, float]] = []
    start_s = 0.0
    for length_s, rate_rps in pieces:
        points += [(start_s, rate_rps), (start_s + length_s, rate_rps)]
        start_s += length_s
    return _profile(name, points)


def _profile(name: str, points: Sequence[tuple[float, float]]) -> Profile:
    at_s, rates = np.array(points, np.float64).T
    return Profile(at_s, rates, name)


SHAPES: dict[str, Callable[[float, float, int], Profile]] = {
    "steady": steady,
    "ramp": ramp,
    "spike": spike,
    "overload": overload,
    "bursty": bursty,
}
"""By name: `shape(rate_rps, seconds, seed)`."""
