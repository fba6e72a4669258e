"""The page's plots as SVG text: bars and lines are medians, the marks beside them the repeats."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from loadtest.peers.figures import multiples_of
from loadtest.peers.turns import middle

OURS, OTHERS = "#1f6fb4", "#9a9a9a"
_STYLE: Any = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "exfm", "axes.spines.top": False}


def capacity(result: Mapping[str, Any]) -> str:
    """A bar per system, the greatest on top, with its repeats and its figure."""
    figure, axes = _axes(0.45 * len(result["capacity_rps"]) + 1.2)
    draw_capacity(axes, result["capacity_rps"], result.get("capacity_at_least", ()))
    return _svg(figure)


def goodput(result: Mapping[str, Any]) -> str:
    """A line per system over the offered rate, with its repeats."""
    figure, axes = _axes(5.0)
    draw_goodput(axes, result)
    return _svg(figure)


def draw_capacity(axes: Any, capacity_rps: Mapping[str, Sequence[float]], at_least: Sequence[str]) -> None:
    """Draw it; what is only known to be at least that much says so."""
    found = {name: middle(values) or 0.0 for name, values in capacity_rps.items()}
    names = sorted(found, key=lambda name: found[name])
    axes.barh(names, [found[name] for name in names], color=[_colour(name) for name in names])
    for name in names:
        repeats = capacity_rps[name]
        axes.plot(repeats, [name] * len(repeats), "k|", markersize=12)
        text = f" {'at least ' if name in at_least else ''}{found[name]:.0f}"
        axes.text(max([*repeats, found[name]]), name, text, va="center")
    axes.margins(x=0.12)
    axes.set(xlabel="requests per second", xlim=(0, None))


def draw_goodput(axes: Any, result: Mapping[str, Any]) -> None:
    """Draw it; ticks say which multiple of the best peer's capacity a rate is."""
    best = result["best_peer"]["capacity_rps"] if result["best_peer"] else 0.0
    at = {key: float(key.rstrip("x")) * best for key in sorted(multiples_of(result), key=_times)}
    for number, (name, by) in enumerate(result["goodput_rps"].items()):
        good, colour = [(at[key], by[key]) for key in at if by.get(key)], f"C{number % 10}"
        if good:
            _line(axes, good, colour, name)
        full = result.get("full_goodput_rps", {}).get(name, by)
        least = [(at[key], full[key]) for key in at if full.get(key)]
        if least and least != good:
            _line(axes, least, colour, f"{name}, full model", thin=True)
    most = max(at.values(), default=0.0)
    # The diagonal leaves the plot; the systems would be squeezed to its bottom otherwise.
    top = max((value for by in result["goodput_rps"].values() for each in by.values() for value in each), default=0.0)
    axes.plot([0, most], [0, most], ":", color="#cccccc", label="all that is offered")
    axes.set_xticks([0.0, *at.values()], ["0", *(f"{key}\n{rate:.0f}/s" for key, rate in at.items())])
    axes.set(xlabel="offered, requests per second", ylabel="good, requests per second", ylim=(0, 1.15 * top or None))
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _line(
    axes: Any, points: Sequence[tuple[float, Sequence[float]]], colour: str, label: str, *, thin: bool = False
) -> None:
    """Medians of the repeats at each rate as a line, and each repeat as a mark."""
    style = "-" if label.startswith("exfm") else "--"
    rates, medians = [rate for rate, _ in points], [middle(values) for _, values in points]
    axes.plot(rates, medians, style, linewidth=0.7 if thin else 1.6, color=colour, label=label)
    marks = [(rate, value) for rate, values in points for value in values]
    axes.plot(*zip(*marks, strict=True), "_", color=colour, markersize=5 if thin else 9)


def _times(key: str) -> float:
    return float(key.rstrip("x"))


def _colour(name: str) -> str:
    return OURS if name.startswith("exfm") else OTHERS


def _axes(height: float) -> tuple[Figure, Any]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, height), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
