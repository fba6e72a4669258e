"""The page's plots as SVG text to stand inside HTML. Labels that come from outside are never read as formulas."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from loadtest.checking.outcomes import BAD, TIERS, Outcome

SIZE = (7.6, 2.9)
COLOURS = {
    "full": "#1a7f5a",
    "trimmed": "#7fb069",
    "lite": "#c9d66b",
    "prior": "#e6b54a",
    Outcome.SHED: "#9a9a9a",
    "unanswered": "#d1495b",
    "failed": "#8c1c2b",
    "wrong": "#5f0f40",
}
_OTHER = "#4a7fb5"
_GOODPUTS = (
    ("goodput_rps", "#1a7f5a", "in time, any tier"),
    ("full_goodput_rps", _OTHER, "in time, full tier"),
)
_STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "exfm",
    "font.size": 9,
    "axes.spines.top": False,
}


def latency_curve(curve: Sequence[Mapping[str, Any]], budget_ms: float) -> str:
    """Latency by percentile, its interval, and the budget; the percentiles' axis is stretched towards the tail."""
    points = [point for point in curve if point["percent"] < 100]
    figure, axes = _axes()
    tail = [1 / (1 - point["percent"] / 100) for point in points]
    low = [point["low"] or 0.0 for point in points]
    high = [point["value"] if point["high"] is None else point["high"] for point in points]
    axes.fill_between(tail, low, high, color=_OTHER, alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(tail, [point["value"] for point in points], color=_OTHER, marker="o", markersize=3, label="latency")
    axes.axhline(budget_ms, color="#d1495b", linestyle="--", label=f"budget {budget_ms:g} ms")
    axes.set_xscale("log")
    axes.set_xticks(tail, [f"{point['percent']:g}" for point in points], rotation=45)
    axes.minorticks_off()
    axes.set(xlabel="percentile of requests", ylabel="ms from the scheduled instant", ylim=(0, None))
    _legend_below(axes)
    return _svg(figure)


def tiers_over_time(timeline: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str:
    """Requests per second by tier, stacked, with the events."""
    figure, axes = _axes()
    at_s = [each["at_s"] for each in timeline]
    widths = [each["seconds"] for each in timeline]
    below = np.zeros(len(timeline))
    for name in _names(timeline):
        rates = np.array([each["tiers"].get(name, 0) / each["seconds"] for each in timeline])
        axes.bar(at_s, rates, widths, below, align="edge", color=COLOURS.get(name, _OTHER), label=name)
        below += rates
    _over_time(axes, timeline, events)
    axes.set(ylabel="requests / s")
    _legend_below(axes)
    return _svg(figure)


def latency_over_time(
    timeline: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]], budget_ms: float
) -> str:
    """p50 and p99 of each slice, the budget, the events."""
    figure, axes = _axes()
    full = [each for each in timeline if each["p99_ms"] is not None]
    for name, colour in (("p50_ms", "#7fb069"), ("p99_ms", _OTHER)):
        axes.plot(
            [each["at_s"] for each in full], [each[name] for each in full], color=colour, label=name.removesuffix("_ms")
        )
    axes.axhline(budget_ms, color="#d1495b", linestyle="--", label="budget")
    _over_time(axes, timeline, events)
    axes.set(ylabel="ms from the scheduled instant", ylim=(0, None))
    _legend_below(axes)
    return _svg(figure)


def memory_over_time(
    rss_mb: Sequence[float], timeline: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> str:
    """Resident memory of the server's processes at the end of each slice, the events."""
    figure, axes = _axes()
    ends_s = [each["at_s"] + each["seconds"] for each in timeline]
    axes.plot(ends_s[: len(rss_mb)], rss_mb, color=_OTHER, marker="o", markersize=3)
    _over_time(axes, timeline, events)
    axes.set(ylabel="MB resident")
    return _svg(figure)


def ledger(stages: Mapping[str, Mapping[str, float]]) -> str:
    """Mean and p99 per stage."""
    figure, axes = _axes()
    places = np.arange(len(stages))
    axes.barh(places - 0.2, [stage["mean_ms"] for stage in stages.values()], 0.4, color="#1a7f5a", label="mean")
    axes.barh(places + 0.2, [stage["p99_ms"] for stage in stages.values()], 0.4, color="#c9d66b", label="p99")
    axes.set_yticks(places, list(stages))
    axes.invert_yaxis()
    axes.set(xlabel="ms")
    axes.legend(frameon=False)
    return _svg(figure)


def goodput(sweep: Sequence[Mapping[str, Any]], knee_rps: float | None) -> str:
    """Answers in time against offered load, the diagonal where nothing is lost, and the knee."""
    figure, axes = _axes()
    offered = [each["offered_rps"] for each in sweep]
    axes.plot([0, max(offered)], [0, max(offered)], color="#bbbbbb", linestyle=":", label="all of the offered")
    rates = sorted(set(offered))
    for name, colour, label in _GOODPUTS:
        # A search tries a rate more than once: each try is a point, the line goes through their medians.
        axes.plot(offered, [each[name] for each in sweep], color=colour, marker="o", markersize=3, linestyle="")
        middle = [np.median([each[name] for each in sweep if each["offered_rps"] == rate]) for rate in rates]
        axes.plot(rates, middle, color=colour, label=label)
    if knee_rps is not None:
        axes.axvline(knee_rps, color="#d1495b", linestyle="--", label=f"knee {knee_rps:.0f}/s")
    axes.set(xlabel="offered requests / s", ylabel="goodput / s", xlim=(0, None), ylim=(0, None))
    _legend_below(axes)
    return _svg(figure)


def _names(timeline: Sequence[Mapping[str, Any]]) -> list[str]:
    seen = {name for each in timeline for name in each["tiers"]}
    known = [name for name in (*TIERS, Outcome.SHED, *BAD) if name in seen]
    return known + sorted(seen - set(known))


def _axes() -> tuple[Figure, Any]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        return figure, figure.subplots()


def _legend_below(axes: Any) -> None:
    # The layout keeps room for what lies outside of the axes; a place counted from them would lie on their labels.
    axes.figure.legend(frameon=False, ncols=4, loc="outside lower center")


def _over_time(axes: Any, timeline: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> None:
    """The axis of a run's own seconds; what happened before or after it is not drawn."""
    end_s = timeline[-1]["at_s"] + timeline[-1]["seconds"]
    axes.set(xlabel="seconds", xlim=(0, end_s))
    for event in events:
        if not 0 <= event["at_s"] <= end_s:
            continue
        axes.axvline(event["at_s"], color="#5f0f40", linewidth=0.8)
        top = axes.get_xaxis_transform()
        # Drawn over the plot, upright, and never as a formula.
        axes.text(event["at_s"], 1.0, f" {event['label']}", transform=top, rotation=90, va="top", fontsize=7)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
