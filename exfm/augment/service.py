"""Join and annotation as a service: step after step until told to stop, through outages, with retention."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.forward import ForwardError
from exfm.augment.annotate.snapshots import SnapshotError
from exfm.augment.annotate.workers.protocol import WorkerDiedError, WorkersUnavailableError
from exfm.augment.join.joiner import Joiner
from exfm.augment.store.store import StoreUnavailableError
from exfm.augment.stream.writer import StreamError
from exfm.data.errors import DataError
from exfm.events import impression, outcome
from exfm.events.log import EventLog, LogUnavailableError

log = logging.getLogger(__name__)

PASSING = (
    LogUnavailableError,
    StreamError,
    DataError,
    StoreUnavailableError,
    SnapshotError,
    ForwardError,
    WorkerDiedError,
    WorkersUnavailableError,
)
"""What may be over at the next try, or is one part's trouble: it must not end the others."""


class Part(Protocol):
    """One of the jobs."""

    def step(self) -> int:
        """Do a bounded amount; how many events moved, 0 if there was nothing to do."""

    @property
    def waiting(self) -> bool:
        """Whether the last step found nothing only because another part is behind."""

    def tidy(self, keep_ms: int) -> None:
        """Retention."""


class JoinPart:
    """The join as a part."""

    def __init__(self, joiner: Joiner, log: EventLog) -> None:
        self._joiner, self._log = joiner, log
        self.waiting = False

    def step(self) -> int:
        done = self._joiner.step()
        self.waiting = done.paused
        return 0 if done.idle else max(done.read, done.emitted, 1)

    def tidy(self, keep_ms: int) -> None:
        before_ms = time.time_ns() // 1_000_000 - keep_ms
        with ExitStack() as stack:  # each is tried, whatever comes of the others
            for topic in (impression.TOPIC, outcome.TOPIC):
                stack.callback(self._log.trim, topic, before_ms)
            stack.callback(self._joiner.trim, before_ms)


@dataclass(frozen=True)
class AnnotatePart:
    """The annotation as a part; `settled` hears of each step's rows."""

    annotator: Annotator
    settled: Callable[[int], None]
    waiting = False

    def step(self) -> int:
        rows = self.annotator.step()
        if rows:
            self.settled(rows)
        return rows

    def tidy(self, keep_ms: int) -> None:
        # By the examples' own time, so that a log of long ago can be replayed.
        if self.annotator.last.newest_ms:
            self.annotator.drop_before(self.annotator.last.newest_ms - keep_ms)


@dataclass(frozen=True)
class ServiceOptions:
    """How a service runs.

    Attributes:
        pause_s: how long it waits when there is nothing to do.
        retry_s: how long it waits when a step fails in passing.
        tidy_s: seconds between retentions.
        keep_ms: how old an example may become.
        drain: end when there is nothing left to do; a join that waits for the annotation has.
    """

    pause_s: float = 0.2
    retry_s: float = 1.0
    tidy_s: float = 60.0
    keep_ms: int = 30 * 86_400_000
    drain: bool = False


def serve(parts: Sequence[Part], stop: threading.Event, options: ServiceOptions | None = None) -> None:
    """Step through the parts in turn until `stop`, or until nothing is left if it is to drain.

    A part that fails in passing rests for `retry_s`; the others and the retention go on.
    """
    options = options or ServiceOptions()
    turns = [_Turn(part, options) for part in parts]
    tidied_s = time.monotonic()
    while not stop.is_set():
        moved = sum([turn.step() for turn in turns])
        if time.monotonic() - tidied_s >= options.tidy_s:
            tidied_s = time.monotonic()
            for turn in turns:
                turn.tidy()
        if not moved:
            resting = any(turn.resting for turn in turns)
            if options.drain and not resting and not any(part.waiting for part in parts):
                return
            stop.wait(min(options.pause_s, options.retry_s) if resting else options.pause_s)


class _Turn:
    """A part, and since when it rests."""

    def __init__(self, part: Part, options: ServiceOptions) -> None:
        self._part, self._options = part, options
        self._failed_s = -math.inf
        self.resting = False

    def step(self) -> int:
        """As the part's own, but 0 while it rests."""
        if self.resting and time.monotonic() - self._failed_s < self._options.retry_s:
            return 0
        self.resting = False
        try:
            return self._part.step()
        except PASSING as error:
            log.warning("a step failed and is tried again: %s", error)
            self._failed_s, self.resting = time.monotonic(), True
            return 0

    def tidy(self) -> None:
        """As the part's own; what fails is left to the next time."""
        try:
            self._part.tidy(self._options.keep_ms)
        except PASSING as error:
            log.warning("retention failed and is tried again: %s", error)
