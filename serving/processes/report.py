"""A worker's reports: sent without ever waiting for the parent, read without ever waiting for the worker."""

import json
import os
from collections.abc import Mapping
from typing import Any


class ReportWriter:
    """Writes JSON lines to a pipe; while the parent doesn't read, reports are left out instead of queued."""

    def __init__(self, number: int) -> None:
        """Write to that file descriptor, which becomes non-blocking."""
        self._number = number
        self._left = b""
        os.set_blocking(number, False)

    def send(self, report: Mapping[str, Any]) -> None:
        """Send a report, or what is left of the one before."""
        self._left = self._left or json.dumps(report, separators=(",", ":")).encode() + b"\n"
        try:
            self._left = self._left[os.write(self._number, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = b""


def read_report(line: bytes) -> dict[str, Any]:
    """The report in a line; empty if it is none."""
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
