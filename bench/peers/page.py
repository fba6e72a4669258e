"""`peers.html`: what was compared, in two plots and a table, readable by someone who wasn't there."""

import html
import io
import shlex
from collections.abc import Mapping
from typing import Any

import matplotlib

from loadtest.peers.quality import told
from loadtest.peers.telling import multiples_of, p99, spoiled, table, wrong
from loadtest.peers.turns import middle

matplotlib.use("svg")
from matplotlib import pyplot

STYLE = "body{font:15px/1.5 system-ui;max-width:62em;margin:2em auto;padding:0 1em}svg{width:100%;height:auto}"
STYLE += "pre{overflow:auto;background:#f4f4f4;padding:1em}td{padding:0 1em}"
OURS, OTHERS = "#1f6fb4", "#9a9a9a"


def page(result: Mapping[str, Any]) -> str:
    """The whole page for the result that `peers.json` holds."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Peers</title><style>{STYLE}</style>",
        "<h1>Peers side by side</h1>",
        f"<p>{html.escape(_conditions(result))}</p>",
        "<h2>What was compared</h2>" + _list(result["about"]) if result.get("about") else "",
        "<h2>Capacity</h2><p>The largest Poisson rate with p99 within the budget, of the full model.</p>",
        _capacity(result["capacity_rps"]),
        "<h2>Goodput</h2><p>Scored by a model within the budget, at multiples of the best peer's capacity. Only exfm "
        "has lesser models to fall back on (trimmed, lite); what its full model alone has scored is drawn thin.</p>",
        _goodput(result),
        _p99(result),
        f"<h2>Figures</h2><pre>{html.escape(table(result))}</pre>",
        _checks(result),
        "<h2>Skipped</h2>" + _list(result["skipped"]) if result["skipped"] else "",
        "<h2>Lacking</h2><p>" + html.escape("; ".join(result["lacks"])) + "</p>" if result.get("lacks") else "",
    ]
    return "\n".join(part for part in parts if part) + "\n</html>\n"


def _conditions(result: Mapping[str, Any]) -> str:
    machine, naive = result["machine"], result["models"]["naive"]
    return (
        f"{machine.get('processor', '')}, {machine.get('cores')} cores, shared by the systems and the generator. "
        f"{result['candidates']} candidates, budget {result['budget_ms']:g} ms, vertical {result['vertical']}, "
        f"{result['repeats']} repeats in turns, {result['seconds']:g} s a run. The peers' naive model has "
        f"{naive['weights']} weights; exfm serves the published student, exfm_same_onnx the peers' own file. "
        f"{told(result.get('quality', {}))}. "
        "Latency runs from the scheduled instant; bars are medians, marks are the repeats; a drive in which the "
        "generator was the bottleneck stands in no median."
        + (f" exfm-serve was given: {shlex.join(given)}." if (given := result.get("serve_arguments")) else "")
        + (f" Stopped and gone on with at: {', '.join(again)}." if (again := result.get("resumed")) else "")
    )


def _capacity(capacity_rps: Mapping[str, list[float]]) -> str:
    found = {name: middle(values) or 0.0 for name, values in capacity_rps.items()}
    names = sorted(found, key=lambda name: found[name])
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(names) + 1.2))
    axes.barh(names, [found[name] for name in names], color=[_colour(name) for name in names])
    for name in names:
        axes.plot(capacity_rps[name], [name] * len(capacity_rps[name]), "k|", markersize=12)
    axes.set_xlabel("requests per second")
    return _svg(figure)


def _goodput(result: Mapping[str, Any]) -> str:
    figure, axes = pyplot.subplots(figsize=(9, 5))
    best = result["best_peer"]["capacity_rps"] if result["best_peer"] else 0.0
    most = 0.0
    for name, by in result["goodput_rps"].items():
        good = {key: value for key, values in by.items() if (value := middle(values)) is not None}
        if not good:
            continue
        at = sorted(good, key=lambda key: float(key.rstrip("x")))
        rates = [float(key.rstrip("x")) * best for key in at]
        most = max(most, *rates)
        style = "-" if name.startswith("exfm") else "--"
        (drawn,) = axes.plot(rates, [good[key] for key in at], style, marker="o", label=name)
        full = result.get("full_goodput_rps", {}).get(name, {})
        least = [middle(full.get(key, by[key])) or 0.0 for key in at]
        if least != [good[key] for key in at]:
            axes.plot(rates, least, style, color=drawn.get_color(), linewidth=0.7, label=f"{name}, full model")
    axes.plot([0, most], [0, most], ":", color="#cccccc", label="all that is offered")
    axes.set_xlabel("offered, requests per second")
    axes.set_ylabel("good, requests per second")
    axes.legend(fontsize=8)
    return _svg(figure)


def _p99(result: Mapping[str, Any]) -> str:
    """A row per system, and beside each figure that the caller's deadline has cut that it is."""
    found, multiples = p99(result), multiples_of(result)
    if not found:
        return ""
    rows = [["p99, ms", *multiples]]
    for name, by in found.items():
        rows.append([name, *(_milliseconds(by[key]) if key in by else "-" for key in multiples)])
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table>{cells}</table><p>Cut: callers give up at their deadline, {result['budget_ms']:g} ms after the "
        "scheduled instant. How much later the answers would have come is not known; p99 is at least that. Calls that "
        "failed and wrong answers count as past it, too; refusals count with the time that they took.</p>"
    )


def _milliseconds(figure: Mapping[str, Any]) -> str:
    return f"at least {figure['ms']:.1f} (cut at the deadline)" if figure["cut"] else f"{figure['ms']:.1f}"


def _checks(result: Mapping[str, Any]) -> str:
    entries: dict[str, str] = {}
    if ruling := result.get("loadgen"):
        word = "VALID" if ruling["valid"] else "INVALID"
        entries["LoadGen"] = (
            f"{word} at {ruling['qps']:.1f}/s; capacity found here {ruling['capacity_rps']:.1f}/s. {ruling['notice']}."
        )
    if test := result.get("generator_selftest"):
        entries["Generator against known stalls, p99.9"] = (
            f"truth {test['true_p999_ms']:.1f} ms, this generator {test['open_p999_ms']:.1f} ms, "
            f"a closed loop {test['closed_p999_ms']:.1f} ms"
        )
    entries |= spoiled(result)
    for name, said in wrong(result).items():
        entries[name] = f"{entries[name]}; {said}" if name in entries else said
    return "<h2>Is the measurement sound?</h2>" + _list(entries) if entries else ""


def _list(entries: Mapping[str, str]) -> str:
    return "<ul>" + "".join(f"<li><b>{html.escape(k)}</b>: {html.escape(v)}</li>" for k, v in entries.items()) + "</ul>"


def _colour(name: str) -> str:
    return OURS if name.startswith("exfm") else OTHERS


def _svg(figure: Any) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", bbox_inches="tight")
    pyplot.close(figure)
    text = written.getvalue()
    return text[text.index("<svg") :]
