"""How long a model takes for so many candidates: a distribution, kept current, that is held to its predictions."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.line import Line, Point
from serving.budget.window import Window


@dataclass(frozen=True, slots=True)
class Estimate:
    """One call's service time, without the wait for work ahead of it.

    Attributes:
        mean_s: what it costs the backend on average; the unit of admission.
        p99_s: what 99 of 100 calls don't exceed.
        p90_s: what 90 of 100 don't.
    """

    mean_s: float
    p99_s: float
    p90_s: float


LEAST_S = 5e-5
"""No call costs less, whatever the line says."""


class Outlook(NamedTuple):
    """What calls take as far as can be told at one moment, for whoever asks of several sizes at once.

    Attributes:
        base_s, slope_s: the mean's line over the candidates.
        above_s, above: how far the p99 lies above the mean: seconds, and parts of the mean.
        above_p90_s: how far the p90 does, in seconds; in parts of the mean it is `above`, too.
    """

    base_s: float
    slope_s: float
    above_s: float = 0.0
    above: float = 0.0
    above_p90_s: float = 0.0

    def mean_s(self, candidates: int) -> float:
        """What a call with so many candidates takes on average."""
        return _at_least(self.slope_s * candidates + self.base_s)

    def p99_s(self, candidates: int) -> float:
        """What 99 of 100 such calls don't exceed."""
        mean_s = self.mean_s(candidates)
        return mean_s + self.above_s + self.above * mean_s

    def most(self, p99_s: float, mean_s: float = math.inf) -> int:
        """The most candidates whose p99 and mean are within these times; a billion if any number is."""
        room_s = min((p99_s - self.above_s) / (1 + self.above), mean_s) - self.base_s
        if room_s <= 0:
            return 0
        return int(min(room_s / self.slope_s, 1e9)) if self.slope_s > 0 else 10**9


class Estimates:
    """Service times of one model on one backend: a line over the candidates, and the quantiles of what is off it.

    The service time of a finished call is its latency less the work that was predicted ahead of it, so what it learns
    is what makes wait plus service come out right: with a backend that shares its time, or scores several requests at
    once, the cost follows. Where the queue is ours, what it learns from are calls of whole batches, without any wait in
    their time.

    A call that was given up is a miss, and says only that it took longer: it raises the line if it was above it, and
    nothing else. Its end is not known, and a tail that ended at what the watchdog waits would keep every later call
    away as soon as one in a hundred is given up.

    When nothing was seen for `STALE_S`, predictions fall back on the seed, so that an estimate which a stall or a slow
    phase has spoilt gets the calls it needs to heal. The seed follows the canaries, for where calls are rare it is all
    that says how slow a backend has become: at once to a quicker one, and to slower ones when the latest `CANARIES`
    all were.
    """

    QUANTILE, LIKELY = 0.99, 0.9
    STALE_S = 0.25
    SEED_TAIL = 1.0
    """The p99 of a seeded model, in parts of the mean that it is above the mean; measurement replaces it."""
    COVERAGE_KEEPS = 0.999
    CANARIES = 5

    def __init__(
        self,
        candidates: int = 64,
        service_s: float = 0.002,
        clock: Clock = MONOTONIC,
        profile: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """Begin with a guess: a call with so many candidates takes so long.

        `profile` is what an export measured in process: mean seconds by candidates. With two sizes or more it gives the
        seed its slope; the level comes from the measured call, which has the way to the backend in it.
        """
        self._clock = clock
        self._profile = profile
        self._line = Line(*self._points(candidates, service_s))
        self._seed = Line(*self._points(candidates, service_s))
        self._tail = Window()
        self._learned: Outlook | None = None
        self._canaries = deque((service_s,), self.CANARIES)
        self._quickest_s = service_s
        self._seen_s = clock()
        self._covered = self._judged = 0.0
        self.calls = 0

    def seed(self, candidates: int, service_s: float) -> None:
        """Begin anew from one measured call, such as a canary or an entry of an export's profile."""
        self._canaries = deque((service_s,), self.CANARIES)
        self._quickest_s = service_s
        points = self._points(candidates, service_s)
        self._learned = None
        self._line.reseed(*points)
        self._seed.reseed(*points)
        self._tail.clear()

    def lower(self, candidates: int, service_s: float) -> None:
        """Let the seed go by the quickest of the latest canaries, all of one size, of which this is one more.

        The first after a start pays for much else, and any other may meet a hiccup. What makes a backend slower than
        it has ever been, such as a neighbour, makes it so for every candidate, and not just for each call.
        """
        self._canaries.append(service_s)
        self._quickest_s = min(self._quickest_s, service_s)
        slower = min(self._canaries) / max(self._quickest_s, LEAST_S)
        low, high = ((x, slower * y_s) for x, y_s in self._points(candidates, self._quickest_s))
        self._learned = None
        self._line.fix(low, high)
        self._seed.reseed(low, high)

    def predict(self, candidates: int) -> Estimate:
        """What a call with that many candidates will take."""
        outlook = self.outlook()
        mean_s, p99_s = outlook.mean_s(candidates), outlook.p99_s(candidates)
        return Estimate(mean_s, p99_s, p99_s - outlook.above_s + outlook.above_p90_s)

    def mean_s(self, candidates: int) -> float:
        """The mean of that alone."""
        # Without an outlook, since it is asked of each waiting request, again and again.
        return _at_least((self._line if self._fresh() else self._seed).at(candidates))

    def most(self, p99_s: float, mean_s: float = math.inf) -> int:
        """The most candidates whose predicted p99 and mean are within these times; a billion if any number is."""
        return self.outlook().most(p99_s, mean_s)

    def outlook(self) -> Outlook:
        """What calls of any size will take."""
        if not self._fresh():
            return Outlook(self._seed.base, self._seed.slope, above=self.SEED_TAIL)
        if self._learned is None:
            self._learned = self._look()
        return self._learned

    def _look(self) -> Outlook:
        base_s, slope_s = self._line.base, self._line.slope
        if not len(self._tail):
            return Outlook(base_s, slope_s, above=self.SEED_TAIL)
        p99_s, p90_s = (max(self._tail.quantile(share), 0.0) for share in (self.QUANTILE, self.LIKELY))
        return Outlook(base_s, slope_s, above_s=p99_s, above_p90_s=p90_s)

    def observe(self, candidates: int, service_s: float, promised_s: float | None = None) -> None:
        """Learn from a finished call.

        Args:
            candidates: its size.
            service_s: what it took; may be negative where the work ahead had been overestimated.
            promised_s: the p99 that was predicted when it began; None: what would be predicted now.
        """
        self._judge(service_s <= (self.predict(candidates).p99_s if promised_s is None else promised_s))
        now_s = self._clock()
        self._learned = None
        self._line.add(candidates, service_s, now_s)
        self._tail.add(service_s - self._line.at(candidates), now_s)
        self._seen_s = now_s
        self.calls += 1

    def miss(self, candidates: int, spent_s: float, promised_s: float = 0.0) -> None:
        """Learn from a call that was given up after `spent_s`, the work predicted ahead of it taken off.

        If that was before its predicted p99, `promised_s`, nobody knows whether the prediction would have held.
        """
        if spent_s >= promised_s:
            self._judge(False)
        if spent_s > self._line.at(candidates):
            self._learned = None
            self._line.add(candidates, spent_s, self._clock())
        self._seen_s = self._clock()
        self.calls += 1

    @property
    def coverage(self) -> float:
        """Share of the latest calls, about a thousand, that took no longer than their predicted p99; 1 before any.

        Without those that were given up before.
        """
        return self._covered / self._judged if self._judged else 1.0

    def _points(self, candidates: int, service_s: float) -> tuple[Point, Point]:
        """Two points of the line through one measured call."""
        if len(self._profile) < 2:
            return (0.0, service_s / 2), (float(candidates), service_s)
        low, high = min(self._profile), max(self._profile)
        slope = max(self._profile[high] - self._profile[low], 0.0) / (high - low)
        base_s = max(service_s - slope * candidates, self._profile[low])
        return (0.0, base_s), (float(high), base_s + slope * high)

    def _fresh(self) -> bool:
        return self.calls > 0 and self._clock() - self._seen_s <= self.STALE_S

    def _judge(self, covered: bool) -> None:
        self._judged = self.COVERAGE_KEEPS * self._judged + 1
        self._covered = self.COVERAGE_KEEPS * self._covered + covered


def _at_least(mean_s: float) -> float:
    return mean_s if mean_s > LEAST_S else LEAST_S
