"""What serving writes for learning: impressions, never waited for, and outcomes, acknowledged once they are durable.

One thread owns the log. It writes impressions in batches every `linger_s`, outcomes as soon as it can, all that wait in
one batch. What can't be kept is counted by reason, and never more than the bounds is held.
"""

import asyncio
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from exfm.events import impression, outcome
from exfm.events.impression import Impression
from exfm.events.log import EventLog, LogUnavailableError
from exfm.events.outcome import Outcome
from exfm.events.wire import EventError
from serving.errors import OverloadedError

log = logging.getLogger(__name__)

Dropped = Literal["not_delivered", "queue_full", "no_request_id", "log_failed", "not_encoded", "closed"]
"""Why an impression was not kept: its answer never reached the caller; the bounded queue was full; the request had no
id, so no outcome could ever name it; the log could not be written until the server stopped, or failed in a way that
nobody foresaw; a value did not fit; it came after the log was closed."""
RETRY_MS = 1000
"""What a caller is told to wait when outcomes can't be taken."""


@dataclass(frozen=True)
class LogOptions:
    """Bounds.

    Attributes:
        batch: impressions per record of the log.
        linger_s: how long an impression may wait for its batch to fill.
        most_impressions: how many may wait; more are dropped.
        most_outcomes: how many may wait to become durable; more are refused.
    """

    batch: int = 100
    linger_s: float = 0.05
    most_impressions: int = 10_000
    most_outcomes: int = 100_000


@dataclass
class _Asked:
    """Outcomes that a call waits for; `settle` is called once, with what went wrong or None, on the log's thread."""

    rows: Sequence[Outcome]
    settle: Callable[[Exception | None], None]


class ServingLog:
    """The bounded way from the event loop to the event log."""

    def __init__(self, connect: Callable[[], EventLog], options: LogOptions | None = None) -> None:
        """`connect` is called on the log's own thread, again after each failure."""
        self._connect = connect
        self._options = options or LogOptions()
        self._impressions: deque[Impression] = deque()
        self._asked: deque[_Asked] = deque()
        self._waiting = 0
        self._batch: tuple[bytes, list[Impression]] | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._given_up = False
        self._log: EventLog | None = None
        self._thread = threading.Thread(target=self._run, name="exfm-log", daemon=True)
        self.written: Counter[str] = Counter()
        """Durable events by topic."""
        self.dropped: Counter[Dropped] = Counter()
        """Impressions that were not kept, by reason."""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, rows: Sequence[Impression]) -> None:
        """Take impressions to be logged; returns at once, whatever the log is doing."""
        for row in rows:
            if self._closing:
                self.dropped["closed"] += 1
            elif not row.request_id:
                self.dropped["no_request_id"] += 1
            elif len(self._impressions) >= self._options.most_impressions:
                self.dropped["queue_full"] += 1
            else:
                self._impressions.append(row)

    async def record(self, rows: Sequence[Outcome]) -> None:
        """Log outcomes; returns when they are durable, all of them.

        Raises:
            OverloadedError: they were not taken, none of them; too many wait, or the log can't be written.
        """
        if not rows:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            loop.call_soon_threadsafe(_resolve, done, error)

        with self._wake:
            if self._closing or self._waiting + len(rows) > self._options.most_outcomes:
                raise OverloadedError("outcomes come faster than they can be kept", RETRY_MS)
            self._waiting += len(rows)
            self._asked.append(_Asked(rows, settle))
            self._wake.notify()
        await done

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is waiting, then end; blocks no longer than the timeout.

        What is left by then is counted as `log_failed`, the batch in hand, too, whatever becomes of it, and outcomes
        are refused.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._wake:
            if not self._thread.is_alive():
                return
            self._given_up = True
            self._count_left()
            asked, self._asked = self._asked, deque()
        _settle(asked, OverloadedError("the outcome log can't be written now", RETRY_MS))

    @property
    def queued(self) -> int:
        """Impressions that wait."""
        batch = self._batch  # the log's thread may let go of it at any time
        return len(self._impressions) + (len(batch[1]) if batch else 0)

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._asked and not self._closing:
                    self._wake.wait(self._options.linger_s)
                closing = self._closing
            self._write_outcomes()
            healthy = self._write_impressions()
            if closing and (not healthy or not self._impressions):
                self._end()
                return

    def _end(self) -> None:
        self._write_outcomes()
        with self._wake:
            if not self._given_up:
                self._count_left()
        self._let_go()

    def _count_left(self) -> None:
        if self.queued:
            self.dropped["log_failed"] += self.queued
        self._impressions.clear()
        self._batch = None

    def _write_outcomes(self) -> None:
        with self._wake:
            asked = [self._asked.popleft() for _ in range(len(self._asked))]
            rows = [row for each in asked for row in each.rows]
        if not asked:
            return
        error: Exception | None = None
        try:
            self._append(outcome.TOPIC, outcome.encode(rows), len(rows), os.urandom(16))
        except Exception as raised:  # whatever it is, these callers wait, and later ones will
            log.warning("%d outcomes could not be logged: %s", len(rows), raised, exc_info=_unforeseen(raised))
            error = OverloadedError("the outcome log can't be written now", RETRY_MS)
        with self._wake:
            self._waiting -= len(rows)
        _settle(asked, error)

    def _write_impressions(self) -> bool:
        """Write what waits now, batch by batch; False if the log refused: the batch in hand is kept for the next try.

        What comes meanwhile waits for its turn, and outcomes go between two batches: their callers are waiting.
        """
        left = len(self._impressions)
        while True:
            if self._batch is None:
                left -= self._take(left)
            if (batch := self._batch) is None:
                return True
            batch_id, rows = batch
            try:
                self._append(impression.TOPIC, impression.encode(rows), len(rows), batch_id)
            except LogUnavailableError as error:
                log.warning("%d impressions wait: the log can't be written: %s", self.queued, error)
                return False
            except EventError as error:
                log.error("%d impressions dropped: %s", len(rows), error)
                self.dropped["not_encoded"] += len(rows)
            except Exception:  # to try this batch for ever would hold up all that come
                log.exception("%d impressions dropped", len(rows))
                self.dropped["log_failed"] += len(rows)
            self._batch = None
            self._write_outcomes()

    def _take(self, most: int) -> int:
        """Make a batch of those that wait, if any do; how many it took."""
        with self._wake:
            size = min(self._options.batch, most, len(self._impressions))
            if size:
                self._batch = os.urandom(16), [self._impressions.popleft() for _ in range(size)]
            return size

    def _append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> None:
        if self._log is None:
            self._log = self._connect()
        try:
            self._log.append(topic, payload, count, batch_id)
        except Exception:
            self._let_go()
            raise
        self.written[topic] += count

    def _let_go(self) -> None:
        last, self._log = self._log, None
        if last is not None:
            with suppress(Exception):  # what failed may fail once more
                last.close()


def _unforeseen(error: Exception) -> bool:
    return not isinstance(error, LogUnavailableError | EventError)


def _settle(asked: Iterable[_Asked], error: Exception | None) -> None:
    for each in asked:
        with suppress(RuntimeError):  # the loop that asked has been closed
            each.settle(error)


def _resolve(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():
        return  # the caller has gone
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
