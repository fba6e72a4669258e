"""A user's history inside its share of the budget: whatever goes wrong, the request goes on without, and is counted.

The store is read on a thread of its own, since even a memory-mapped page may have to come from a disk; the event loop
waits for it no longer than the share. While the thread is stuck, requests don't even ask.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from exfm.features.encoding import MISSING
from serving.features.store import HistoryStore, OutageError

log = logging.getLogger(__name__)

Found = Literal["hit", "miss", "no_user", "timeout", "busy", "outage", "broken", "other_space"]
"""How a look-up ended: with a history; without, since the user has none; the request names no user; the share was over;
too many wait already; the store can't be read; what it holds is no history; all of it is of other teachers than the
student's."""


@dataclass(frozen=True)
class LookupOptions:
    """Bounds.

    Attributes:
        share: of what is left of the budget that a look-up may take, and
        most_s: the most it may take whatever is left.
        waiting: look-ups that may wait for the thread; more go without.
        retry_s: after an outage the store is opened again no sooner than that.
    """

    share: float = 0.05
    most_s: float = 0.002
    waiting: int = 64
    retry_s: float = 1.0


@dataclass
class _Asked:
    user: int
    answer: Callable[[Found, bytes], None]
    settled: Callable[[], bool]


class HistoryLookup:
    """Look-ups of one worker process."""

    def __init__(self, connect: Callable[[], HistoryStore], options: LookupOptions | None = None) -> None:
        """`connect` is called on the look-ups' own thread, again after an outage."""
        self._connect = connect
        self._options = options or LookupOptions()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="exfm-history", daemon=True)
        self._pending = 0
        self.found: Counter[Found] = Counter()
        """Look-ups by how they ended."""

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    async def packed(self, user: int, left_s: float) -> bytes:
        """The user's packed history, or nothing; never raises and never takes longer than its share of `left_s`."""
        limit_s = min(self._options.most_s, self._options.share * left_s)
        if user == MISSING or limit_s <= 0 or self._pending >= self._options.waiting:
            return self._without("no_user" if user == MISSING else "busy")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Found, bytes]] = loop.create_future()

        def answer(found: Found, value: bytes) -> None:
            loop.call_soon_threadsafe(self._answered, done, found, value)

        self._pending += 1
        self._asked.put(_Asked(user, answer, done.done))
        timer = loop.call_later(limit_s, _resolve, done, "timeout", b"")
        try:
            found, value = await done
        finally:
            timer.cancel()
        self.found[found] += 1
        return value

    def found_useless(self, why: Literal["broken", "other_space"]) -> None:
        """The value that `packed` has just returned can't be used; to be called before anything else runs."""
        self.found["hit"] -= 1
        self.found[why] += 1

    def close(self) -> None:
        """End the thread; look-ups that wait end with their timeout."""
        self._asked.put(None)

    def _without(self, why: Found) -> bytes:
        self.found[why] += 1
        return b""

    def _answered(self, done: "asyncio.Future[tuple[Found, bytes]]", found: Found, value: bytes) -> None:
        self._pending -= 1
        _resolve(done, found, value)

    def _run(self) -> None:
        store: HistoryStore | None = None
        not_before_s = 0.0
        while (asked := self._asked.get()) is not None:
            found: Found = "outage"
            value = None
            if asked.settled():  # nobody waits: to read it would only make those behind it late, too
                _tell(asked, "timeout", b"")
                continue
            try:
                if store is None and time.monotonic() >= not_before_s:
                    store = self._connect()
                if store is not None:
                    value = store.get(asked.user)
                    found = "miss" if value is None else "hit"
            except Exception as error:  # whatever it is, look-ups wait, and later ones will
                log.warning("histories can't be read: %s", error, exc_info=not isinstance(error, OutageError))
                _close(store)
                store, not_before_s = None, time.monotonic() + self._options.retry_s
            _tell(asked, found, value or b"")
        _close(store)


def _tell(asked: _Asked, found: Found, value: bytes) -> None:
    with suppress(RuntimeError):  # the loop that asked has been closed
        asked.answer(found, value)


def _close(store: HistoryStore | None) -> None:
    if store is not None:
        with suppress(Exception):  # what failed may fail once more
            store.close()


def _resolve(done: "asyncio.Future[tuple[Found, bytes]]", found: Found, value: bytes) -> None:
    if not done.done():
        done.set_result((found, value))
