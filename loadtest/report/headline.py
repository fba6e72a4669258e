"""What was offered and what came of it, in one line."""

from collections.abc import Mapping
from typing import Any

from loadtest.verdict.objectives import shown
from loadtest.verdict.tally import PERCENTILES

CUT = "cut at the deadline"
"""Said of a percentile that is one only of the calls that callers waited for: the truth is no less."""
LABELS = {**{name: f"p{percent:g}" for name, percent in PERCENTILES.items()}, "max_ms": "max"}


def headline(document: Mapping[str, Any]) -> str:
    """Of a result document; what it doesn't hold is left out."""
    conditions = document["conditions"]
    candidates = [f"{conditions['candidates']} candidates"] if "candidates" in conditions else []
    load = ", ".join([*_load(document, conditions), *candidates])
    told = percentiles_of(document.get("figures", {}))
    return ": ".join(part for part in (load, told) if part)


def percentiles_of(figures: Mapping[str, Any]) -> str:
    """Such as `p50 4.00 ms, p99 >= 25.30 ms (>=: cut at the deadline)`, of those that there are."""
    told = ", ".join(
        f"{label} {at_least(figures, name)}{shown(name, _value(figures[name]))}"
        for name, label in LABELS.items()
        if name in figures
    )
    return f"{told} (>=: {CUT})" if figures.get("cut") else told


def at_least(figures: Mapping[str, Any], name: str) -> str:
    """The sign before a figure that is only a lower bound, else nothing."""
    return ">= " if name in figures.get("cut", ()) else ""


def _value(figure: Any) -> float | None:
    value = figure["value"] if isinstance(figure, Mapping) else figure
    return None if value is None else float(value)


def _load(document: Mapping[str, Any], conditions: Mapping[str, Any]) -> list[str]:
    seconds = f"{document['seconds']:.4g} s" if "seconds" in document else ""
    if document.get("of"):
        return [part for part in (str(document["of"]), seconds) if part]
    rate = f" {conditions['rate_rps']:g}/s" if "rate_rps" in conditions else ""
    rate += f" at {conditions['speed']:g} times its pace" if "speed" in conditions else ""
    shape = f"{conditions['shape']}{rate}" if "shape" in conditions else ""
    return [" x ".join(part for part in (shape, seconds) if part)] if shape or seconds else []
