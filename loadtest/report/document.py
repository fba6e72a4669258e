"""A run as its result file holds it, and as the page and `compare` read it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.arrivals.shapes import Profile
from loadtest.checking.record import Record
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.tally import Tally

FORMAT_VERSION = 1
_BINS = 120
_CURVE = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)


@dataclass(frozen=True)
class Event:
    """Something that happened at an instant of the run, seconds from its start."""

    at_s: float
    label: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def figures_plain(tally: Tally, seconds: float) -> dict[str, Any]:
    """Counts, rates and figures with their intervals."""
    shares = {name: count / tally.offered for name, count in sorted(tally.tiers.items())}
    return {
        "offered": tally.offered,
        "offered_rps": tally.offered / seconds,
        "late": tally.late,
        "goodput_rps": tally.in_time / seconds,
        "full_goodput_rps": tally.full_in_time / seconds,
        "tiers": shares,
        "errors": dict(tally.errors.most_common(20)),
        **{name: interval.plain() for name, interval in tally.figures().items()},
        "max_ms": tally.latencies.percentile_ms(100),
        "cut": tally.cut(),
    }


def generator_plain(tally: Tally, others_cpu_s: float | None = None) -> dict[str, Any]:
    """How the generator itself did; None for what was not measured."""
    return {
        "sent_late_share": tally.sent_late / tally.offered,
        "sent_late_p50_ms": tally.lateness.percentile_ms(50),
        "sent_late_p99_ms": tally.lateness.percentile_ms(99),
        "sent_late_max_ms": tally.lateness.percentile_ms(100),
        "cpu_share": tally.cpu_share,
        "cpu_peak": max(tally.cpu_share, tally.cpu_peak),
        "others_cpu_s": others_cpu_s,
    }


def curve(latencies: Latencies) -> list[dict[str, float | None]]:
    """Points of the latency curve that the sample is large enough for, with their intervals."""
    points = [
        {"percent": percent, **latencies.interval_ms(percent).plain()}
        for percent in _CURVE
        if len(latencies) * (1 - percent / 100) >= 1
    ]
    return [*points, {"percent": 100.0, "value": latencies.percentile_ms(100), "low": None, "high": None}]


def by_tier(record: Record) -> dict[str, dict[str, float]]:
    """Percentiles of each tier's answers, and of what came instead."""
    kinds = {name: record.latency_s[record.tier == name] * 1e3 for name in record.tiers()}
    return {
        name: {"p50_ms": float(np.percentile(each, 50)), "p99_ms": float(np.percentile(each, 99))}
        for name, each in kinds.items()
    }


def slice_s(seconds: float) -> float:
    """Width of a slice of a timeline of that length."""
    return max(1.0, seconds / _BINS) if seconds >= 10 else max(seconds / 10, 1e-3)


def timeline(record: Record, seconds: float, budget_s: float) -> list[dict[str, Any]]:
    """The run in even slices: offered, late, tiers and percentiles of each."""
    width_s = slice_s(seconds)
    starts = np.arange(0.0, seconds, width_s).tolist()
    parts = [(at_s, record.between(at_s, at_s + width_s)) for at_s in starts]
    return [slice_of(part, at_s, min(width_s, seconds - at_s), budget_s) for at_s, part in parts]


def slice_of(part: Record, at_s: float, seconds: float, budget_s: float) -> dict[str, Any]:
    """One slice of a timeline, which begins at `at_s` and holds these requests, possibly none."""
    latency_ms = part.counted_s(budget_s) * 1e3
    return {
        "at_s": at_s,
        "seconds": seconds,
        "offered": len(part),
        "late": int(part.late(budget_s).sum()),
        "tiers": {name: round(share * len(part)) for name, share in part.tiers().items()},
        "p50_ms": float(np.percentile(latency_ms, 50)) if len(part) else None,
        "p99_ms": float(np.percentile(latency_ms, 99)) if len(part) else None,
    }


def ledger(record: Record, budget_s: float) -> dict[str, dict[str, float]]:
    """Mean and p99 milliseconds, and the mean's share of the budget, per stage of the answers that tell their ledger.

    `outside` is what the caller waited beyond the server's stages: network, sockets and the generator.
    """
    if not record.stages_ms:
        return {}
    told = ~np.all([np.isnan(column) for column in record.stages_ms.values()], axis=0)
    columns = {name: column[~np.isnan(column)] for name, column in record.stages_ms.items()}
    inside_ms = np.nansum(list(record.stages_ms.values()), axis=0)
    columns["outside"] = np.maximum(record.latency_s * 1e3 - inside_ms, 0.0)[told]
    return {name: _stage(column, int(told.sum()), budget_s) for name, column in columns.items()}


def _stage(column: Any, answers: int, budget_s: float) -> dict[str, float]:
    # The mean is over all answers: a stage that few went through weighs little.
    mean_ms = float(np.sum(column)) / answers
    return {
        "mean_ms": mean_ms,
        "p99_ms": float(np.percentile(column, 99)),
        "budget_share": mean_ms / (budget_s * 1e3),
        "answers": len(column),
    }


def events_of(record: Record, profile: Profile | None = None) -> list[Event]:
    """What the run itself shows: steps of the offered rate, and other model versions."""
    events = []
    if profile is not None and profile.name != "bursty":
        steps = np.flatnonzero((np.diff(profile.at_s) == 0) & (np.diff(profile.rate_rps) != 0))
        events += [Event(float(profile.at_s[at]), f"{profile.rate_rps[at + 1]:.0f}/s") for at in steps]
    answered = np.flatnonzero(record.version > 0)
    versions = record.version[answered]
    for at in np.flatnonzero(np.diff(versions)):
        events.append(Event(float(record.at_s[answered[at + 1]]), f"version {versions[at + 1]}"))
    return events[:40]


def merged(events: Sequence[Event], more: Sequence[Event]) -> list[Event]:
    """By time."""
    return sorted([*events, *more], key=lambda event: event.at_s)


def kind_of(document: Mapping[str, Any]) -> str:
    """Which command wrote a result; empty for what is none of this version."""
    return str(document.get("kind", "")) if document.get("format_version") == FORMAT_VERSION else ""
