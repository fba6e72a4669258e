"""Batches of records from the join's output, in order."""

import time
from collections import deque

from exfm.augment.join import example
from exfm.events.log import EventLog, Record

_AT_ONCE = 8


class Intake:
    """Reads on from an offset.

    Args:
        source: the join's output.
        after: the offset of the last settled record.
        batch: how many rows make a batch.
        linger_s: how long a row may wait for its batch to fill.
    """

    def __init__(self, source: EventLog, after: int, batch: int, linger_s: float) -> None:
        self._source, self._after = source, after
        self._batch, self._linger_s = batch, linger_s
        self._waiting: deque[Record] = deque()

    def take(self, *, eager: bool) -> list[Record]:
        """A full batch, or nothing yet; without `eager` what there is counts only once it has lingered.

        Raises:
            LogUnavailableError: nothing was taken.
        """
        rows = sum(record.count for record in self._waiting)
        while rows < self._batch and (more := self._source.read(example.TOPIC, self._after, _AT_ONCE)):
            self._waiting += more
            self._after = more[-1].offset
            rows += sum(record.count for record in more)
        if not rows or (rows < self._batch and not (eager and self._lingered())):
            return []
        taken = [self._waiting.popleft()]
        while self._waiting and sum(each.count for each in taken) + self._waiting[0].count <= self._batch:
            taken.append(self._waiting.popleft())
        return taken

    def _lingered(self) -> bool:
        return time.time_ns() // 1_000_000 - self._waiting[0].appended_ms >= self._linger_s * 1e3
