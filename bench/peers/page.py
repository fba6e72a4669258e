"""`peers.html`: what came of it, two plots and four tables, readable by someone who wasn't there."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from bench.peers import plots
from bench.peers.markup import entries, grid, heading, paragraph
from loadtest.peers import stolen
from loadtest.peers.figures import multiples_of, rows
from loadtest.peers.headline import headline
from loadtest.peers.telling import NOTES, listed, p99, spoiled, wrong

STYLE = (
    "body{font:15px/1.5 system-ui;max-width:66em;margin:2em auto;padding:0 1em}svg{width:100%;height:auto}"
    "table{border-collapse:collapse}th,td{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd;"
    "white-space:nowrap}th:first-child,td:first-child,.facts th,.facts td{text-align:left}"
    ".facts td{white-space:normal;vertical-align:top}.wide{overflow-x:auto}"
    ".first{font-size:1.2em}.lacking{background:#fbe9c6;padding:.6em 1em}.note{color:#555;font-size:.9em}"
)
MACHINE = {
    "started": "date",
    "processor": "processor",
    "cores": "cores",
    "memory_gib": "memory, GiB",
    "kernel": "kernel",
    "governor": "CPU governor",
    "load_before": "load before",
    "python": "Python of the generator",
}
"""Facts of the machine, and what they are called on the page."""


def page(result: Mapping[str, Any]) -> str:
    """The whole page for the result that `peers.json` holds."""
    first, *more = (f"{text}." for text in headline(result))
    lacking = "Lacking: " + "; ".join(result["lacks"]) if result.get("lacks") else ""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Peers</title><style>{STYLE}</style>",
        "<h1>Peers side by side</h1>",
        paragraph(first, "first"),
        *map(paragraph, more),
        paragraph(lacking, "lacking") if lacking else "",
        heading("Capacity") + paragraph("The largest Poisson rate with p99 within the budget, of the full model."),
        plots.capacity(result),
        heading("Goodput") + paragraph(_of_goodput(result)),
        plots.goodput(result),
        heading("Figures") + grid(rows(result)) + "".join(paragraph(note, "note") for note in NOTES),
        _p99(result),
        heading("Is the measurement sound?") + entries(checks) if (checks := _checks(result)) else "",
        heading("What was compared") + paragraph(_conditions(result)),
        entries(result["about"]) if result.get("about") else "",
        heading("Skipped") + entries(result["skipped"]) if result["skipped"] else "",
        heading("Versions") + _versions(result["versions"]) if result["versions"] else "",
        heading("Machine") + _machine(result),
    ]
    return "\n".join(part for part in parts if part) + "\n</html>\n"


def _of_goodput(result: Mapping[str, Any]) -> str:
    best = result["best_peer"]
    of = f" ({best['name']}, {best['capacity_rps']:.0f}/s)" if best else ""
    return (
        f"Scored by a model within the budget, at multiples of the best peer's capacity{of}. Only exfm has lesser "
        "models to fall back on (trimmed, lite); what its full model alone has scored is drawn thin."
    )


def _conditions(result: Mapping[str, Any]) -> str:
    return (
        "One machine, shared by the systems and the generator. "
        f"{result['candidates']} candidates, budget {result['budget_ms']:g} ms, vertical {result['vertical']}, "
        f"{result['repeats']} repeats in turns, {result['seconds']:g} s a run. The peers' naive model has "
        f"{result['models']['naive']['weights']} weights; exfm serves the published student, exfm_same_onnx the peers' "
        "own file. Latency runs from the scheduled instant; bars and lines are medians, marks are the repeats; a drive "
        "in which the generator was the bottleneck stands in no median."
        + (f" exfm-serve was given: {shlex.join(given)}." if (given := result.get("serve_arguments")) else "")
    )


def _p99(result: Mapping[str, Any]) -> str:
    """A row per system, and beside each figure that the caller's deadline has cut that it is."""
    found, multiples = p99(result), multiples_of(result)
    if not found:
        return ""
    made = [["p99, ms", *multiples]]
    for name, by in found.items():
        made.append([name, *(_milliseconds(by[key]) if key in by else "-" for key in multiples)])
    return grid(made) + paragraph(
        f"Cut: callers give up at their deadline, {result['budget_ms']:g} ms after the scheduled instant. How much "
        "later the answers would have come is not known; p99 is at least that. Calls that failed and wrong answers "
        "count as past it, too; refusals count with the time that they took.",
        "note",
    )


def _milliseconds(figure: Mapping[str, Any]) -> str:
    return f"at least {figure['ms']:.1f} (cut at the deadline)" if figure["cut"] else f"{figure['ms']:.1f}"


def _checks(result: Mapping[str, Any]) -> dict[str, str]:
    made: dict[str, str] = {}
    if ruling := result.get("loadgen"):
        made["LoadGen"] = f"{_ruled(ruling)} {ruling['notice']}."
    if test := result.get("generator_selftest"):
        made["Generator against known stalls, p99.9"] = (
            f"truth {test['true_p999_ms']:.1f} ms, this generator {test['open_p999_ms']:.1f} ms, "
            f"a closed loop {test['closed_p999_ms']:.1f} ms"
        )
    made |= spoiled(result)
    for name, said in wrong(result).items():
        made[name] = f"{made[name]}; {said}" if name in made else said
    return made


def _ruled(ruling: Mapping[str, Any]) -> str:
    word = ruling.get("word") or ("VALID" if ruling["valid"] else "INVALID")
    why = "".join(f"; {fault}" for fault in ruling.get("faults", ()))
    found_rps = ruling["capacity_rps"]
    of = f"{ruling['qps'] / found_rps:.1%} of the capacity found here, {found_rps:.1f}/s"
    text = f"{word} at {ruling['qps']:.1f}/s, {of}{why}."
    if "cpu_share" in ruling:
        text += f" Its process used {ruling['cpu_share']:.0%} of a core and sent {ruling['sent_late_share']:.1%} late."
    return text


def _versions(versions: Mapping[str, Mapping[str, str]]) -> str:
    return grid([["system", "versions"], *([name, listed(each)] for name, each in versions.items())], "facts")


def _machine(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    facts = [[name, str(machine[key])] for key, name in MACHINE.items() if key in machine]
    facts += [["packages of the generator", listed(machine["versions"])]] if machine.get("versions") else []
    facts.append(["stolen CPU time", stolen.told(result.get("stolen_share", {})) or "not known"])
    resumed: Sequence[str] = result.get("resumed", ())
    facts += [["stopped, and gone on with at", ", ".join(resumed)]] if resumed else []
    return grid([["what", "of this run"], *facts], "facts")
