"""A comparison's figures as rows of texts, for the terminal's table and for the page's."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.peers.turns import middle, spread

UNKNOWN = "?"


def rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A head and a row per system, the greatest capacity first; medians, and beside each the spread of its repeats."""
    multiples = multiples_of(result)
    head = ["", "capacity/s", "spread", "below"]
    head += [text for key in multiples for text in (f"good at {key}", "spread")]
    made = [[*head, "restarts", "stolen"]]
    for name, values in sorted(result["capacity_rps"].items(), key=lambda item: -(middle(item[1]) or 0.0)):
        cells = [name, at_least(result, name) + whole(middle(values)), _spread(values), _below(result, name)]
        for key in multiples:
            good = result["goodput_rps"].get(name, {}).get(key, [])
            cells += [good_at(result, name, key), _spread(good)]
        made.append([*cells, str(result.get("restarts", {}).get(name, 0)), _stolen(result, name)])
    return made


def multiples_of(result: Mapping[str, Any]) -> list[str]:
    """At which multiples there is a goodput."""
    return list(dict.fromkeys(key for by in result["goodput_rps"].values() for key in by))


def good_at(result: Mapping[str, Any], name: str, key: str) -> str:
    """The median goodput, and in parentheses what of it the full model has, where that is less; empty without any."""
    good = result["goodput_rps"].get(name, {})
    if key not in good:
        return ""
    full = result.get("full_goodput_rps", {}).get(name, {})
    every, best = whole(middle(good[key])), whole(middle(full.get(key, good[key])))
    return every if every == best else f"{every} ({best})"


def at_least(result: Mapping[str, Any], name: str) -> str:
    """`at least ` before a capacity that the generator has bounded, else nothing."""
    return "at least " if name in result.get("capacity_at_least", ()) else ""


def whole(value: float | None) -> str:
    """Without decimals; `-` for none."""
    return "-" if value is None else f"{value:.0f}"


def aligned(made: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines in columns."""
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    return [
        cells[0].ljust(widths[0])
        + "".join(f"  {cell:>{wide}}" for cell, wide in zip(cells[1:], widths[1:], strict=True))
        for cells in made
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{spread(values):.0%}" if len(values) > 1 else UNKNOWN if values else ""


def _below(result: Mapping[str, Any], name: str) -> str:
    """By repeat the least rate that failed after the capacity was confirmed."""
    bounds = result.get("capacity_below_rps", {}).get(name, ())
    return ", ".join(UNKNOWN if bound is None else whole(bound) for bound in bounds)


def _stolen(result: Mapping[str, Any], name: str) -> str:
    known = [share for share in result.get("stolen_share", {}).get(name, ()) if share is not None]
    return f"{max(known):.1%}" if known else UNKNOWN
