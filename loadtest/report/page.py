"""One page per result, with everything in it: no scripts, no links, nothing to load; all text escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report import plots
from loadtest.report.headline import CUT, LABELS, at_least, headline
from loadtest.verdict.objectives import shown

TITLES = {
    "run": "One load",
    "replay": "A recorded load, again",
    "overload": "Overload",
    "capacity": "Capacity",
    "soak": "A long load",
    "locust": "A locust run",
}
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def page(document: Mapping[str, Any]) -> str:
    """The page of a result document as the commands make it: `kind`, `conditions`, a verdict, and what it measured."""
    template = _ENVIRONMENT.get_template("page.html.j2")
    return template.render(
        document=document,
        headline=headline(document),
        labels=LABELS,
        shown=shown,
        at_least=at_least,
        cut=CUT,
        title=TITLES.get(document["kind"], document["kind"]),
        conditions=_flat(document["conditions"]),
        plots=[(caption, Markup(svg)) for caption, svg in _plots(document)],
    )


def _plots(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget_ms = float(document["conditions"]["budget_ms"])
    of, last = document.get("of", ""), document.get("last_of", "")
    made = []
    if document.get("sweep"):
        caption = "Goodput against offered load. Past the knee it must stay flat; a server that collapses bends down."
        made.append((caption, plots.goodput(document["sweep"], document.get("knee_rps"))))
    if document.get("curve"):
        caption = "Latency of all requests, refused and unanswered ones included, with 95 % intervals."
        made.append((_of(caption, of), plots.latency_curve(document["curve"], budget_ms)))
    if timeline := document.get("timeline"):
        events, said = document["events"], of if document.get("whole_timeline") else last or of
        made.append((_of("Who answered, over time.", said), plots.tiers_over_time(timeline, events)))
        made.append((_of("Latency over time.", said), plots.latency_over_time(timeline, events, budget_ms)))
        if rss_mb := document.get("rss_mb"):
            caption = "Memory of the server's processes, over time."
            made.append((caption, plots.memory_over_time(rss_mb, timeline, events)))
    if document.get("ledger"):
        caption = "Where an answer's time went, by the server's own ledger; outside is network, sockets and generator."
        made.append((_of(caption, last or of), plots.ledger(document["ledger"])))
    return made


def _of(caption: str, part: str) -> str:
    """The caption, and which part of the run the plot shows, if it isn't all."""
    return f"{caption} Of {part}." if part else caption


def _flat(conditions: Mapping[str, Any]) -> dict[str, str]:
    """Nested conditions as one level of texts."""
    flat: dict[str, str] = {}
    for name, value in conditions.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}: {inner}": str(each) for inner, each in value.items()}
        else:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat
