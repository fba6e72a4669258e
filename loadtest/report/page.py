"""One page per result, with everything in it: no scripts, no links, nothing to load; all text escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report import plots

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
        title=TITLES.get(document["kind"], document["kind"]),
        conditions=_flat(document["conditions"]),
        plots=[(caption, Markup(svg)) for caption, svg in _plots(document)],
    )


def _plots(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget_ms = float(document["conditions"]["budget_ms"])
    made = []
    if document.get("sweep"):
        caption = "Goodput against offered load. Past the knee it must stay flat; a server that collapses bends down."
        made.append((caption, plots.goodput(document["sweep"], document.get("knee_rps"))))
    if document.get("curve"):
        caption = "Latency of all requests, refused and unanswered ones included, with 95 % intervals."
        made.append((caption, plots.latency_curve(document["curve"], budget_ms)))
    if document.get("timeline"):
        made.append(("Who answered, over time.", plots.tiers_over_time(document["timeline"], document["events"])))
        caption = "Latency over time."
        made.append((caption, plots.latency_over_time(document["timeline"], document["events"], budget_ms)))
    if document.get("ledger"):
        caption = "Where an answer's time went, by the server's own ledger; outside is network, sockets and generator."
        made.append((caption, plots.ledger(document["ledger"])))
    return made


def _flat(conditions: Mapping[str, Any]) -> dict[str, str]:
    """Nested conditions as one level of texts."""
    flat: dict[str, str] = {}
    for name, value in conditions.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}: {inner}": str(each) for inner, each in value.items()}
        else:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat
