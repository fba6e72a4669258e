"""Goodput against offered load, out of one run whose rate moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadtest.arrivals.shapes import Profile
from loadtest.checking.outcomes import Outcome
from loadtest.checking.record import Record
from loadtest.verdict.tally import Tally

KNEE_SHARE = 0.95
"""The knee is the largest load of which at least this share is still answered in time, by the full tier."""
PARTS = {"ramp": 10, "overload": 5}
"""Into so many equal parts a run of these shapes is cut, of which each has one rate or nearly so."""


def sweep_of(record: Record, profile: Profile, budget_s: float) -> dict[str, Any]:
    """`sweep` and `knee_rps` for a result document; nothing for a shape that doesn't go from load to load."""
    parts = PARTS.get(profile.name, 0)
    width_s = profile.seconds / max(parts, 1)
    pieces = [(at * width_s, record.between(at * width_s, (at + 1) * width_s)) for at in range(parts)]
    sweep = [_swept(piece, at_s, width_s, budget_s) for at_s, piece in pieces if len(piece)]
    return {"sweep": sweep, "knee_rps": knee_of(sweep)} if sweep else {}


def knee_of(sweep: Sequence[Mapping[str, Any]]) -> float | None:
    """The largest load that was held; None where none was, or even the largest: then it lies beyond what was tried."""
    held = [each["offered_rps"] for each in sweep if each["full_goodput_rps"] >= KNEE_SHARE * each["offered_rps"]]
    return max(held) if held and len(held) < len(sweep) else None


def swept(tally: Tally, seconds: float) -> dict[str, Any]:
    """What a line of a sweep says of the requests of one load that lasted so long; at least one."""
    return {
        "offered_rps": tally.offered / seconds,
        "goodput_rps": tally.in_time / seconds,
        "full_goodput_rps": tally.full_in_time / seconds,
        "late_share": tally.late / tally.offered,
        "p99_ms": tally.latencies.percentile_ms(99),
        "p99_cut": "p99_ms" in tally.cut(),
    }


def _swept(piece: Record, at_s: float, seconds: float, budget_s: float) -> dict[str, Any]:
    in_time = piece.in_time(budget_s)
    p99_s = float(np.percentile(piece.counted_s(budget_s), 99))
    return {
        "offered_rps": len(piece) / seconds,
        "goodput_rps": float(in_time.sum()) / seconds,
        "full_goodput_rps": float((in_time & (piece.tier == Outcome.FULL)).sum()) / seconds,
        "late_share": float(piece.late(budget_s).mean()),
        "p99_ms": p99_s * 1e3,
        "p99_cut": p99_s > budget_s and bool((piece.tier == Outcome.UNANSWERED).any()),
        "said": f"from {at_s:.4g} s to {at_s + seconds:.4g} s",
    }
