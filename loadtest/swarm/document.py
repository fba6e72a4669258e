"""A locust run as its result file holds it: what `run` has, too, made of counts instead of each request."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadtest.arrivals.shapes import Profile
from loadtest.checking.record import Record
from loadtest.driving.conditions import conditions
from loadtest.report.document import (
    FORMAT_VERSION,
    Event,
    curve,
    events_of,
    figures_plain,
    generator_plain,
    merged,
)
from loadtest.report.sweep import knee_of
from loadtest.swarm.engine import Engine
from loadtest.swarm.loads import loads_of
from loadtest.swarm.part import Part
from loadtest.verdict.judge import Verdict
from loadtest.verdict.tally import Tally


def document(options: Any, engine: Engine, total: Part, verdict: Verdict, events: Sequence[Event]) -> dict[str, Any]:
    """All that the page and `compare` read.

    Args:
        options: locust's.
        engine: any process's.
        total: what all processes have counted.
        verdict: on it.
        events: from outside; those that the run itself shows come to them.
    """
    tally, profile = total.tally(), engine.profile
    made = {
        "kind": "locust",
        "format_version": FORMAT_VERSION,
        **verdict.plain(),
        "conditions": _facts(options, engine),
        "seconds": profile.seconds,
        "events": [event.plain() for event in merged(events, _shown(total, profile))],
        "tally": tally.plain(),
    }
    return {**made, **_measured(total, tally, profile)} if tally.offered else made


def _measured(total: Part, tally: Tally, profile: Profile) -> dict[str, Any]:
    sweep = loads_of(profile).sweep(total.loads)
    return {
        "figures": figures_plain(tally, profile.seconds),
        "generator": generator_plain(tally),
        "curve": curve(tally.latencies),
        "by_tier": by_kind(total),
        "ledger": total.stages.ledger(total.budget_s),
        "timeline": slices(total, profile.seconds),
        "sweep": sweep,
        "knee_rps": knee_of(sweep),
    }


def by_kind(total: Part) -> dict[str, dict[str, float]]:
    """As `report.document.by_tier`."""
    kinds = sorted(total.kinds.items())
    return {name: {"p50_ms": each.percentile_ms(50), "p99_ms": each.percentile_ms(99)} for name, each in kinds}


def slices(total: Part, seconds: float) -> list[dict[str, Any]]:
    """As `report.document.timeline`."""
    starts = np.arange(0.0, seconds, total.slice_s).tolist()
    none = Tally(total.budget_s)
    return [
        _slice(total.slices.get(number, none), at_s, min(total.slice_s, seconds - at_s))
        for number, at_s in enumerate(starts)
    ]


def _slice(tally: Tally, at_s: float, seconds: float) -> dict[str, Any]:
    latencies = tally.latencies
    return {
        "at_s": at_s,
        "seconds": seconds,
        "offered": tally.offered,
        "late": tally.late,
        "tiers": dict(sorted(tally.tiers.items())),
        "p50_ms": latencies.percentile_ms(50) if tally.offered else None,
        "p99_ms": latencies.percentile_ms(99) if tally.offered else None,
    }


def _shown(total: Part, profile: Profile) -> list[Event]:
    """Steps of the offered rate, and other model versions."""
    at_s, version = np.array(total.versions, np.float64).reshape(-1, 2).T
    none = np.zeros(len(at_s))
    texts = tuple("" for _ in at_s)
    answered = Record(at_s, none, none, none == 0, none.astype(str), version.astype(np.int64), texts)
    return events_of(answered, profile)


def _facts(options: Any, engine: Engine) -> dict[str, Any]:
    return {
        "target": engine.address,
        "vertical": engine.workload.vertical,
        "budget_ms": engine.budget_s * 1e3,
        "timeout_ms": engine.timeout_s * 1e3,
        "shape": options.shape,
        "rate_rps": options.rate,
        "candidates": options.candidates,
        "seed": options.seed,
        "streams": engine.streams,
        "requests_of": engine.workload.origin,
        "workload_sha256": engine.workload.digest,
        **conditions(),
    }
