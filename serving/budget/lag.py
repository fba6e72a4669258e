"""How late the event loop is: time that requests lose before our code sees them."""

import asyncio

from serving.budget.clock import MONOTONIC, Clock


class LoopLag:
    """A heartbeat on the event loop whose delay is charged to the requests that were waiting meanwhile.

    gRPC doesn't tell when a request came in. After a stall of L seconds the first request taken up may have waited L,
    and a backlog served in order of arrival is gone about L later; between the two the charge falls linearly.
    """

    def __init__(self, interval_s: float = 0.01, clock: Clock = MONOTONIC) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._due_s = float("inf")
        self._ticked_s = float("-inf")
        self._stall_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin beating on the running loop."""
        self._plan(self._clock())

    def stop(self) -> None:
        """Stop beating; the charge is zero from now on."""
        if self._timer:
            self._timer.cancel()
        self._due_s, self._ticked_s = float("inf"), float("-inf")

    def tick(self) -> None:
        """Note how late this beat is, and plan the next."""
        now_s = self._clock()
        # A smaller delay must not wipe out a stall whose backlog is still being worked off.
        self._stall_s = max(now_s - self._due_s, self._left_s(now_s), 0.0)
        self._plan(now_s)

    def charge_s(self, now_s: float) -> float:
        """Seconds that a request taken up at `now_s` is taken to have waited for the loop."""
        overdue_s = now_s - self._due_s
        return max(overdue_s, self._left_s(now_s), 0.0)

    def _left_s(self, now_s: float) -> float:
        return self._stall_s - (now_s - self._ticked_s)

    def _plan(self, now_s: float) -> None:
        self._ticked_s = now_s
        self._due_s = now_s + self._interval_s
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self.tick)
