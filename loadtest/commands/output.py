"""Results as files, as JSON on stdout, and as text."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.document import Event
from loadtest.report.page import page
from loadtest.verdict import Verdict


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
        lines = [text, *(f"  {check.line()}" for check in verdict.checks), *(f"  {why}" for why in verdict.invalid)]
        sys.stdout.write("\n".join([*lines, f"verdict: {verdict.word}", f"written: {result} and {report}", ""]))
    return verdict.code


def read_events(path: Path | None) -> list[Event]:
    """Events from a file of JSON lines; none without a file.

    Raises:
        EventsError: a line is no event.
        OSError: the file can't be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    return [_event(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _event(path: Path | None, number: int, line: str) -> Event:
    try:
        raw = json.loads(line)
        return Event(float(raw["at_s"]), str(raw["label"])[:80])
    except (ValueError, TypeError, KeyError) as error:
        raise EventsError(f'{path}:{number}: expected {{"at_s": seconds, "label": "text"}}') from error
