"""The result as a person wants to see it: medians, and the spread where it matters."""

from collections.abc import Mapping
from typing import Any

HEADER = (
    *("rate", "variant", "goodput/s", "(min-max)", "ratio", "(min-max)", "per CPU s", "ratio", "(min-max)"),
    *("late %", "fell back %", "p50 ms", "p99 ms", "batch", "wasted %", "CPU client", "CPU Triton", "CPU other"),
)
Row = tuple[str, ...]


def table(result: Mapping[str, Any]) -> str:
    """A Markdown table of the medians over the rounds, ratios against the best of Triton's side."""
    ratios = {(one["multiple"], one["variant"]): one for one in result["ratios"]}
    rows = [_row(one, ratios[one["multiple"], one["variant"]]) for one in result["summaries"]]
    widths = [max(len(row[place]) for row in (HEADER, *rows)) for place in range(len(HEADER))]
    lines = [_line(HEADER, widths), _line(tuple("-" * width for width in widths), widths)]
    lines += [_line(row, widths) for row in rows]
    bases = ", ".join(f"{rate:.0f}" for rate in result["base_rps"])
    over = result["ratios"][0]["over"]
    head = (
        f"{result['vertical']}: {result['candidates']} candidates, budget {result['budget_ms']:g} ms, "
        f"{result['processors']} processors; base rate by round: {bases} requests/s; ratios over {over}"
    )
    return "\n".join((head, "", *lines))


def _row(summary: Mapping[str, Any], ratio: Mapping[str, Any]) -> Row:
    percent = {name: _median(summary[name], 100) for name in ("late_share", "fell_back_share", "wasted_share")}
    return (
        f"{summary['multiple']:g}x",
        summary["variant"],
        _median(summary["goodput_rps"]),
        _range(summary["goodput_rps"], 0),
        _median(ratio["goodput_ratio"], digits=2),
        _range(ratio["goodput_ratio"], 2),
        _median(summary["goodput_per_cpu_s"]),
        _median(ratio["goodput_per_cpu_ratio"], digits=2),
        _range(ratio["goodput_per_cpu_ratio"], 2),
        percent["late_share"],
        percent["fell_back_share"],
        _median(summary["p50_ms"]),
        _median(summary["p99_ms"]),
        _median(summary["batch"], digits=2),
        percent["wasted_share"],
        *(_median(summary[f"{who}_cpu_share"], digits=2) for who in ("client", "triton", "other")),
    )


def _median(spread: Mapping[str, float] | None, factor: float = 1, digits: int = 1) -> str:
    return "-" if spread is None else f"{factor * spread['median']:.{digits}f}"


def _range(spread: Mapping[str, float] | None, digits: int) -> str:
    return "-" if spread is None else f"{spread['min']:.{digits}f}-{spread['max']:.{digits}f}"


def _line(cells: Row, widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
