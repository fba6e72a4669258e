"""Results as files, as JSON on stdout, and as text."""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.driving.measure import Measured
from loadtest.report.document import Event, events_of, merged
from loadtest.report.page import page
from loadtest.report.text import said_of_generator
from loadtest.verdict.judge import Verdict


class EventsError(ValueError):
    """The file of events is none; the message names the line."""


def deliver(asked: argparse.Namespace, document: Mapping[str, Any], verdict: Verdict, text: str) -> int:
    """Write the JSON and the page into the folder, say the verdict on stdout; the exit code."""
    asked.out.mkdir(parents=True, exist_ok=True)
    result, report = asked.out / f"{asked.name}.json", asked.out / f"{asked.name}.html"
    result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    report.write_text(page(document), encoding="utf-8")
    if asked.json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        lines = [text, said_of_generator(document["generator"])]
        lines += [f"  {line}" for line in (*(check.line() for check in verdict.checks), *verdict.invalid)]
        sys.stdout.write("\n".join([*lines, f"verdict: {verdict.word}", f"written: {result} and {report}", ""]))
    return verdict.code


def read_events(path: Path | None, zero_unix_s: float = 0.0) -> list[Event]:
    """Events from a file of JSON lines; none without a file.

    Args:
        path: of the file.
        zero_unix_s: when the run began, for events that tell the time of day.

    Raises:
        EventsError: a line is no event.
        OSError: the file can't be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    return [_event(path, number, line, zero_unix_s) for number, line in enumerate(lines, 1) if line.strip()]


def events_since(path: Path | None, zero_unix_s: float) -> list[Event]:
    """`read_events` after a run, which is not lost for a line that has become unreadable meanwhile."""
    try:
        return read_events(path, zero_unix_s)
    except (EventsError, OSError) as error:
        sys.stderr.write(f"no events: {error}\n")
        return []


def seen_of(measured: Measured) -> tuple[float, list[Event]]:
    """A drive's zero by the time of day, and what its answers showed: other model versions."""
    return measured.zero_unix_s, events_of(measured.result.record)


def laid_over(path: Path | None, drives: Sequence[tuple[float, list[Event]]], zero_unix_s: float) -> list[Event]:
    """The events of several drives, one after the other, on the axis of the one that is drawn.

    Args:
        path: of the file of events, whose `at_s` count from the first drive's zero.
        drives: as `seen_of` gives them, in the order of time.
        zero_unix_s: the drawn one's zero; what came before it stands at negative seconds.
    """
    told = (drives[0][0], events_since(path, drives[0][0]))
    every = [replace(event, at_s=event.at_s + zero - zero_unix_s) for zero, seen in (*drives, told) for event in seen]
    return merged(every, ())


def _event(path: Path | None, number: int, line: str, zero_unix_s: float) -> Event:
    try:
        raw = json.loads(line)
        at_s = float(raw["unix_s"]) - zero_unix_s if "unix_s" in raw else float(raw["at_s"])
        if not math.isfinite(at_s):
            raise ValueError(at_s)
        return Event(at_s, str(raw["label"])[:80])
    except (ValueError, TypeError, KeyError) as error:
        wanted = '{"at_s": seconds from the start, "label": "text"}, or "unix_s" with the time of day'
        raise EventsError(f"{path}:{number}: expected {wanted}") from error
