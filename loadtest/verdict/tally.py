"""A run, or a part of one, in counts that add up: processes and windows are merged, then read as figures."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtest.checking.outcomes import BAD, PAST, Outcome
from loadtest.driving.target import Reply, Result, sent_late_s
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.stats import Interval, wilson

_COUNTS = ("offered", "late", "in_time", "full_in_time", "sent_late")
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}


@dataclass
class Tally:
    """Counts of requests.

    Attributes:
        budget_s: what each had.
        offered, late, in_time, full_in_time: all; see `record` for late; sound answers in time; those by the full tier.
        sent_late: those that the generator itself sent late, see `sent_late_s`.
        tiers: requests by tier or what came instead.
        errors: requests by what was the matter.
        latencies: from the scheduled instant to the end of the call, see `outcomes.counted_s`.
        lateness: from the scheduled instant to sending.
        cpu_share: CPU seconds over wall seconds of the busiest generating process.
        cpu_peak: the same in its busiest second; 0 where that was not measured.
    """

    budget_s: float
    offered: int = 0
    late: int = 0
    in_time: int = 0
    full_in_time: int = 0
    sent_late: int = 0
    tiers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    lateness: Latencies = field(default_factory=Latencies)
    cpu_share: float = 0.0
    cpu_peak: float = 0.0

    def add(self, reply: Reply, latency_s: float, lateness_s: float) -> None:
        """Count one request."""
        within = latency_s <= self.budget_s
        self.offered += 1
        self.late += not (within and (reply.ok or reply.tier == Outcome.SHED))
        self.in_time += within and reply.ok
        self.full_in_time += within and reply.ok and reply.tier == Outcome.FULL
        self.sent_late += lateness_s >= sent_late_s(self.budget_s)
        self.tiers[reply.tier] += 1
        self.errors.update([reply.error] if reply.error else [])
        self.latencies.add([max(latency_s, PAST * self.budget_s) if reply.tier in BAD else latency_s])
        self.lateness.add([lateness_s])

    def merge(self, other: "Tally") -> None:
        """Count all of another's requests, too."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.tiers.update(other.tiers)
        self.errors.update(other.errors)
        self.latencies.merge(other.latencies)
        self.lateness.merge(other.lateness)
        self.cpu_share = max(self.cpu_share, other.cpu_share)
        self.cpu_peak = max(self.cpu_peak, other.cpu_peak)

    def figures(self) -> dict[str, Interval]:
        """Everything that an objective can name, with its interval; `ValueError` if nothing was offered."""
        bad = sum(self.tiers[name] for name in BAD)
        return {
            "late_share": wilson(self.late, self.offered),
            "error_share": wilson(bad, self.offered),
            "wrong_share": wilson(self.tiers[Outcome.WRONG], self.offered),
            "full_tier_share": wilson(self.tiers[Outcome.FULL], self.offered),
            "goodput_share": wilson(self.in_time, self.offered),
            **{name: self.latencies.interval_ms(percent) for name, percent in PERCENTILES.items()},
        }

    def cut(self) -> list[str]:
        """Which percentiles, `max_ms` among them, stand where callers had given up: answers would have come later."""
        if not self.tiers[Outcome.UNANSWERED]:
            return []
        values = {name: self.latencies.percentile_ms(each) for name, each in {**PERCENTILES, "max_ms": 100.0}.items()}
        # What came to nothing counts as past the budget, however early its deadline ended it.
        return [name for name, value_ms in values.items() if value_ms > self.budget_s * 1e3]

    def plain(self) -> dict[str, Any]:
        """As values for JSON or msgpack; `from_plain` reads them back."""
        return {
            **{name: getattr(self, name) for name in ("budget_s", *_COUNTS, "cpu_share", "cpu_peak")},
            "tiers": {str(name): count for name, count in self.tiers.items()},
            "errors": dict(self.errors),
            "latencies": self.latencies.encoded(),
            "lateness": self.lateness.encoded(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Tally":
        """What `plain` gave; `ValueError` or `KeyError` for anything else."""
        made = cls(budget_s=float(plain["budget_s"]), cpu_share=float(plain["cpu_share"]))
        made.cpu_peak = float(plain.get("cpu_peak", 0.0))  # older files don't have it
        for name in _COUNTS:
            setattr(made, name, int(plain[name]))
        made.tiers, made.errors = Counter(plain["tiers"]), Counter(plain["errors"])
        made.latencies, made.lateness = (Latencies(encoded=plain[name]) for name in ("latencies", "lateness"))
        return made


def tally_of(result: Result, budget_s: float) -> Tally:
    """A whole drive."""
    record = result.record
    in_time = record.in_time(budget_s)
    return Tally(
        budget_s=budget_s,
        offered=len(record),
        late=result.late,
        in_time=int(in_time.sum()),
        full_in_time=int((in_time & (record.tier == Outcome.FULL)).sum()),
        sent_late=int(np.sum(record.lateness_s >= sent_late_s(budget_s))),
        tiers=Counter(record.tier.tolist()),
        errors=Counter(record.errors()),
        latencies=Latencies(record.counted_s(budget_s).tolist()),
        lateness=Latencies(record.lateness_s.tolist()),
        cpu_share=result.cpu_share,
        cpu_peak=result.cpu_peak,
    )
