"""The event logs that there are, by the scheme of their URL."""

from collections.abc import Callable

from exfm.events.log import EventLog
from exfm.events.sqlite import SqliteLog
from exfm.events.urls import open_url

BACKENDS: dict[str, Callable[[str], EventLog]] = {"sqlite": SqliteLog}


def open_log(url: str) -> EventLog:
    """The log behind `sqlite:PATH`; `UrlError` for an unknown scheme, `LogUnavailableError` if it won't open."""
    return open_url(url, "event log", BACKENDS)
