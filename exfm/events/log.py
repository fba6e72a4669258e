"""The event log: what every backend promises; `exfm.events.backends` says which ones there are."""

from dataclasses import dataclass
from typing import Protocol

from exfm.events.urls import UrlError

BEGIN = 0
"""The offset before the first record of every topic."""


class LogUnavailableError(Exception):
    """The log can't be reached or written now; the same call may succeed later, nothing was half done."""


class LogRefusedError(UrlError, LogUnavailableError):
    """The engine answers, and will go on to refuse what the URL asks for until somebody changes one or the other.

    Whoever starts with such a URL is to end; whoever is at work already goes on as in any outage.
    """


@dataclass(frozen=True)
class Record:
    """A batch of events in a topic.

    Attributes:
        offset: ascending within the topic, > 0; not necessarily without gaps.
        count: events in it.
        payload: see `exfm.events.wire`.
        appended_ms: when it was appended, milliseconds since the epoch.
    """

    offset: int
    count: int
    payload: bytes
    appended_ms: int


@dataclass(frozen=True)
class Lag:
    """What a consumer has before it: events not yet committed, and when the oldest of them was appended (0: none)."""

    events: int
    oldest_ms: int


class EventLog(Protocol):
    """Topics of records, each about 100 events. One thread uses one log object; several processes may open one log.

    Every method may raise `LogUnavailableError`.
    """

    def append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
        """Add a record; on return it is durable. False if a record with this `batch_id` is there: nothing is added."""

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with offsets above `after`, in order; empty where there are none yet."""

    def end(self, topic: str) -> int:
        """The offset of the topic's last record; `BEGIN` where it has none."""

    def commit(self, consumer: str, topic: str, offset: int) -> None:
        """Everything up to `offset` is done with, as far as this consumer goes; never goes back."""

    def committed(self, consumer: str, topic: str) -> int:
        """The consumer's last commit, or `BEGIN`."""

    def lag(self, consumer: str, topic: str) -> Lag:
        """How far behind its commit the consumer is."""

    def ahead(self, topic: str, after: int) -> Lag:
        """What the topic holds above an offset: the lag of who keeps its place itself."""

    def trim(self, topic: str, before_ms: int) -> int:
        """Drop records appended before that which every consumer of the topic has committed, the oldest first.

        Where there are very many, some may be left to the next call.

        Returns:
            How many events went. A topic that nobody has ever committed keeps everything.
        """

    def close(self) -> None:
        """Let go of it; whatever was appended stays."""
