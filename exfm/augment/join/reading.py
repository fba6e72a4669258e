"""Reading on in a log that may have lost records: a backup was restored, a node lost power, another log took its place.

The join's places are its own, so a log that begins again hands out offsets that the join has passed. It is noticed by
the last record that was read: it is still there, or retention took it with all before it, once all were committed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from exfm.events.log import BEGIN, EventLog, Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """How far a topic was read: an offset, and when its record was appended (0: not known)."""

    offset: int = BEGIN
    appended_ms: int = 0


@dataclass(frozen=True)
class Reading:
    """What one read brought.

    Attributes:
        start: after which offset it began; `BEGIN` where the log is not the one that was read before.
        records: the next ones.
        full: there may be more.
        rewound: the log had lost records, so that all it has is read again.
    """

    start: int
    records: Sequence[Record] = field(repr=False)
    full: bool
    rewound: bool = False

    @property
    def end(self) -> int:
        """The offset that it reached."""
        return self.records[-1].offset if self.records else self.start

    @property
    def events(self) -> int:
        """How many it brought."""
        return sum(record.count for record in self.records)


def read_on(source: EventLog, consumer: str, topic: str, place: Place, limit: int) -> Reading:
    """Up to `limit` records behind a place; from the beginning on if the log is not the one that the place is of.

    Raises:
        LogUnavailableError: as of the log.
    """
    reading = _behind(source, consumer, topic, place, limit)
    if reading.rewound:
        log.warning("the log has lost records of %s up to %d: all it has is read again", topic, place.offset)
    return reading


def next_after(source: EventLog, consumer: str, topic: str, place: Place) -> int:
    """The offset behind which `read_on` would read; `BEGIN` if the log is not the one that the place is of."""
    return _behind(source, consumer, topic, place, 1).start


def _behind(source: EventLog, consumer: str, topic: str, place: Place, limit: int) -> Reading:
    if place.offset == BEGIN:
        return _reading(BEGIN, source.read(topic, BEGIN, limit), limit)
    records = source.read(topic, place.offset - 1, limit + 1)
    here = bool(records) and records[0].offset == place.offset
    if here and place.appended_ms in (0, records[0].appended_ms):
        return _reading(place.offset, records[1:], limit)
    if not here and _retention_took(source, consumer, topic, place.offset):
        return _reading(place.offset, records[:limit], limit)
    records = source.read(topic, BEGIN, limit)
    return Reading(BEGIN, records, len(records) == limit, rewound=True)


def _reading(start: int, records: Sequence[Record], limit: int) -> Reading:
    return Reading(start, records, len(records) == limit)


def _retention_took(source: EventLog, consumer: str, topic: str, offset: int) -> bool:
    """Whether a record is missing because all up to it were committed and then dropped."""
    if any(record.offset < offset for record in source.read(topic, BEGIN, 1)):
        return False
    return source.committed(consumer, topic) >= offset
