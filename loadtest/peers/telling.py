"""A comparison's result in words: the table, and beside it what may not be read off the figures."""

from collections.abc import Mapping
from typing import Any

from loadtest.peers.compare import GOODPUT
from loadtest.peers.figures import aligned, rows
from loadtest.peers.headline import headline
from loadtest.peers.quality import fault_of
from loadtest.peers.turns import middle

NOTES = (
    "Spread is the largest repeat less the smallest, over the median; ? of one repeat. Below is by repeat the least "
    "rate that failed after the capacity was confirmed; ? where the generator was the bottleneck there.",
    "Good is what a model has scored in time; (of it) by the full model alone, where that is less. Restarts are those "
    "after loads that a system did not recover from; stolen is the most that the host took of the CPU time in a turn.",
)
"""What the table's columns are."""


def table(result: Mapping[str, Any]) -> str:
    """For people: what came of it, then a line per system, medians, with the spread of the repeats."""
    lines = [*(f"{text}." for text in headline(result)), "", *aligned(rows(result)), "", *NOTES]
    notes = {name: f"skipped: {reason.splitlines()[0]}" for name, reason in result["skipped"].items()}
    every = (*notes.items(), *spoiled(result).items(), *wrong(result).items())
    lines += [f"{name:<24}{why}" for name, why in every]
    lines += ["", "Versions:"]
    return "\n".join([*lines, *(f"{name:<24}{listed(each)}" for name, each in result["versions"].items())])


def listed(versions: Mapping[str, str]) -> str:
    """Versions by name, as one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def spoiled(result: Mapping[str, Any]) -> dict[str, str]:
    """By system: of how many drives the generator was the bottleneck, if any, and what of the figures that touches."""
    least, left_out = result.get("capacity_at_least", ()), result.get("left_out", {})
    return {
        name: f"the generator was late or busy in {seen['spoiled']} of {seen['drives']} drives"
        + (", just above the capacity, too: it is at least that" if name in least else "")
        + "".join(f"; {out}" for out in _left_out(result, name, left_out.get(name, {})))
        for name, seen in result.get("generator", {}).items()
        if seen["spoiled"]
    }


def wrong(result: Mapping[str, Any]) -> dict[str, str]:
    """By system: how many of its answers did not fit the model; where none did not, one entry that says so."""
    counted = result.get("wrong_answers", {})
    found = {
        name: f"WRONG in {seen['wrong']} answers ({seen['wrong'] / seen['offered']:.2g} of all requests): malformed, "
        "or in the full tier scores other than the model's"
        for name, seen in counted.items()
        if seen["wrong"]
    }
    return found or ({"wrong answers": "none from any system, as far as the full tier answered"} if counted else {})


def lacking(result: Mapping[str, Any]) -> list[str]:
    """What the generator has taken from the result, medians of fewer repeats than asked for, or of none; and models
    that aren't equally good."""
    found = []
    for name, by in result.get("left_out", {}).items():
        found += [f"{name}: {out}" for out in _left_out(result, name, by)]
    return [*found, fault] if (fault := fault_of(result.get("quality", {}))) else found


def without_median(result: Mapping[str, Any]) -> list[str]:
    """Which figures have no median, since every drive was left out: `system at multiple`."""
    return [
        f"{name} at {key}" for name, by in result["goodput_rps"].items() for key, values in by.items() if not values
    ]


def p99(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """By system and multiple `ms`, the median of the sound goodput drives, and `cut`.

    A caller gives up at the end of the budget: of a p99 past that, and so of a median that one of these is in, only a
    lower bound is known, the budget. Refusals count with the time that they took.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for trial in result.get("trials", ()):
        if trial["kind"] == GOODPUT:
            found.setdefault(trial["system"], {}).setdefault(f"{trial['multiple']}x", []).append(trial["p99_ms"])
    budget_ms = result["budget_ms"]
    return {name: {key: _bounded(values, budget_ms) for key, values in by.items()} for name, by in found.items()}


def _bounded(values: list[float], budget_ms: float) -> dict[str, Any]:
    known = [min(value, budget_ms) for value in values]
    return {"ms": middle(known), "cut": max(values) > budget_ms}


def _left_out(result: Mapping[str, Any], name: str, by: Mapping[str, int]) -> list[str]:
    good = result["goodput_rps"].get(name, {})
    return [
        f"{count} of {count + len(good.get(key, ()))} repeats at {key} left out of the median, as the generator was "
        f"the bottleneck{'' if good.get(key) else ': there is none'}"
        for key, count in by.items()
    ]
