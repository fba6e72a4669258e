"""Latency in process, of several things side by side: round by round, so that the machine's moods hit all alike."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

BUCKETS = (1, 16, 64, 100, 200, 500, 1000, 2048)
"""Numbers of candidates that are measured, as far as the vertical takes them."""
ROUNDS = 60


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one request of a given number of candidates, from its tensors to its scores, one thread."""

    p50_ms: float
    p99_ms: float
    mean_ms: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, spent_ns: Sequence[int]) -> "Latency":
        """Of single measurements, nanoseconds each."""
        spent_ms = np.array(spent_ns, np.float64) / 1e6
        p50, p99 = np.percentile(spent_ms, (50, 99))
        return cls(float(p50), float(p99), float(spent_ms.mean()))


def buckets_for(max_candidates: int) -> tuple[int, ...]:
    """`BUCKETS` below the most that the vertical takes, and that."""
    return (*(size for size in BUCKETS if size < max_candidates), max_candidates)


@dataclass(frozen=True)
class Race:
    """Times of things that took turns: by name, nanoseconds round by round."""

    spent_ns: Mapping[str, Sequence[int]]

    @property
    def latencies(self) -> dict[str, Latency]:
        """By name."""
        return {name: Latency.of(spent) for name, spent in self.spent_ns.items()}

    def ratio(self, name: str, other: str) -> float:
        """How much of the other's time it takes: the median of the rounds' ratios.

        What slows a machine for longer than a round is in both times and leaves their ratio alone; it would move
        the medians of the two apart.
        """
        return float(np.median(np.divide(self.spent_ns[name], self.spent_ns[other])))


def interleave(
    runs: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, after: Callable[[], object] = lambda: None
) -> Race:
    """Time each run once per round, in turn; one round goes before and does not count. `after` is called after each."""
    spent_ns: dict[str, list[int]] = {name: [] for name in runs}
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        for run in runs.values():
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                started_ns = time.perf_counter_ns()
                run()
                spent_ns[name].append(time.perf_counter_ns() - started_ns)
            after()
    finally:
        if was_collecting:
            gc.enable()
    return Race(spent_ns)
