"""The event logs that there are, by the scheme of their URL."""

from collections.abc import Callable

from exfm.events.extras import lazily
from exfm.events.log import EventLog
from exfm.events.sqlite import SqliteLog
from exfm.events.urls import open_url

BACKENDS: dict[str, Callable[[str], EventLog]] = {
    "nats": lazily("nats", "exfm.events.nats_log", "NatsLog"),
    "sqlite": SqliteLog,
}


def open_log(url: str) -> EventLog:
    """The log behind `sqlite:PATH` or `nats://HOST:PORT/STREAM` (see `exfm.events.nats_url`).

    Raises:
        UrlError: the scheme is unknown, its client library is not installed, or the rest of the URL is wrong.
        LogUnavailableError: it won't open now.
    """
    return open_url(url, "event log", BACKENDS)


def check_log(url: str) -> None:
    """Raise the `UrlError` that `open_log` would; a server that does not answer now is no reason not to start."""
    open_url(url, "event log", _CHECKS)


_CHECKS: dict[str, Callable[[str], object]] = {
    "nats": lazily("nats", "exfm.events.nats_log", "check_place"),
    "sqlite": lambda _: None,
}
