"""The reply reserve: the part of the budget that the answer's own way out needs."""

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.window import Window


class ReplyReserve:
    """What all but two of the latest replies took at most, from the end of scoring to the last byte handed over.

    With a little on top for what can't be seen here. Never less than the floor, and never more than half of a budget:
    under a burst of slow replies scoring must not stop altogether, or there would be nothing left to learn from. A
    reply that overruns the reserve is late, and of those there may be one in a thousand, from every cause: so only two
    of thousands are taken for accidents. What is older than `SPAN_S` is forgotten, unless there is little else: a
    caller that reads slowly, or a hiccup, costs no longer.
    """

    ACCIDENTS = 2
    UNSEEN_S = 0.0008
    """What of the way out nobody here can see: behind the last byte handed over come the kernel and the caller's own
    reading. Of the late answers of two overloads two thirds were late by less than that, at five times the capacity."""
    SPAN_S, LEAST, MOST = 10.0, 256, 4096

    def __init__(self, floor_s: float = 0.002, clock: Clock = MONOTONIC) -> None:
        self._floor_s = floor_s
        self._clock = clock
        self._latest = Window(self.SPAN_S, self.LEAST, self.MOST)

    def observe(self, reply_s: float) -> None:
        """Note one reply's time in seconds."""
        self._latest.add(reply_s, self._clock())

    def of(self, budget_s: float) -> float:
        """Seconds to keep in hand of a budget of that many seconds."""
        learned_s = self._latest.largest_but(self.ACCIDENTS) if len(self._latest) else 0.0
        return min(max(self._floor_s, learned_s + self.UNSEEN_S), budget_s / 2)
