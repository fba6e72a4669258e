"""Batches of records from the join's output, in order."""

import time
from collections import deque
from pathlib import Path

from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR
from exfm.augment.stream.writer import StreamError
from exfm.data.commits import Commit
from exfm.events.log import EventLog, Record

POSITION_MS = "position_ms"
"""Among a commit's counts: when the record at its position was appended."""
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


def refuse_other(source: EventLog, last: Commit, folder: Path) -> None:
    """`StreamError` where a stream that ends with `last` did not come out of this output of the join.

    Another one's offsets begin anew: what lies below the stream's position would never be read.
    """
    if not last.position:
        return
    there = [each for each in source.read(example.TOPIC, last.position - 1, 1) if each.offset == last.position]
    if there:
        same = last.counts.get(POSITION_MS, there[0].appended_ms) == there[0].appended_ms
    else:  # retention took it, after it was committed
        same = source.committed(ANNOTATOR, example.TOPIC) >= last.position
    if not same:
        raise StreamError(f"{folder}: the stream goes on from another join's output; give this one a stream of its own")
