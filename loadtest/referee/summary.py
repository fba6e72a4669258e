"""Reads LoadGen's own verdict, `mlperf_log_summary.txt`."""

import re
from dataclasses import dataclass, field

_LINE = re.compile(r"^\s*(?P<name>[^:=*][^:]*?)\s*:\s*(?P<value>.*?)\s*$")
_PERCENTILE = re.compile(r"^(?P<share>\d+(?:\.\d+)?) percentile latency \(ns\)$")
SATISFIED = " satisfied"


class SummaryError(ValueError):
    """The text is no summary of a performance run; the message says what is missing."""


@dataclass(frozen=True)
class Summary:
    """What LoadGen says of a run.

    Attributes:
        valid: its verdict.
        scenario: such as "Server".
        scheduled_qps: queries per second of the schedule that it drew, which is what its Server scenario reports.
        unsatisfied: the constraints that it names as not satisfied.
        percentile_ms: latency by percentile in percent, such as 99.0.
        entries: every `name : value` line, the last one of a name.
    """

    valid: bool
    scenario: str
    scheduled_qps: float
    unsatisfied: tuple[str, ...] = ()
    percentile_ms: dict[float, float] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)


def parse_summary(text: str) -> Summary:
    """Read the file's text; `SummaryError` if the verdict or the rate isn't in it."""
    entries = dict(_entries(text))
    result = entries.get("Result is")
    if result not in ("VALID", "INVALID"):
        raise SummaryError(f"'Result is' says {result!r}, neither VALID nor INVALID")
    scheduled = _number(entries.get("Scheduled samples per second", ""))
    if scheduled is None:
        raise SummaryError("no 'Scheduled samples per second': not a Server run")
    unsatisfied = [n.removesuffix(SATISFIED) for n, v in entries.items() if n.endswith(SATISFIED) and v == "NO"]
    return Summary(
        valid=result == "VALID",
        scenario=entries.get("Scenario", ""),
        scheduled_qps=scheduled,
        unsatisfied=tuple(unsatisfied),
        percentile_ms=_percentiles(entries),
        entries=entries,
    )


def _entries(text: str) -> list[tuple[str, str]]:
    matches = (_LINE.match(line) for line in text.splitlines())
    return [(match["name"], match["value"]) for match in matches if match]


def _percentiles(entries: dict[str, str]) -> dict[float, float]:
    found = {}
    for name, value in entries.items():
        match, spent_ns = _PERCENTILE.match(name), _number(value)
        if match and spent_ns is not None:
            found[float(match["share"])] = spent_ns / 1e6
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
