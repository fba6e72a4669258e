"""The reply reserve: the part of the budget that the answer's own way out needs."""

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.window import Window


class ReplyReserve:
    """What the slower of the latest replies took, from the end of scoring to the last byte handed over.

    With a little on top for what can't be seen here. Never less than the floor, and never more than half of a budget:
    under a burst of slow replies scoring must not stop altogether, or there would be nothing left to learn from. What
    is older than `SPAN_S` is forgotten, unless there is little else: a caller that reads slowly, or a hiccup, costs no
    longer.

    How many replies may overrun it is a matter of an error budget. Whoever overruns it is late only where the answer
    was tight: where its reply began with no more time left than all but `ACCIDENTS` of the replies need. So the share
    that may is what makes `SPARE` of all answers late; the fewer are tight, the more that is.
    """

    ACCIDENTS = 2
    """So many may overrun it however many answers are tight: stalls, which no reserve is for."""
    SPARE = 0.0003
    """Of the one in a thousand answers that may be late from every cause."""
    MOST_OVER = 0.01
    """The largest share that may overrun it, however few answers are tight."""
    KEEPS = 0.999
    """Tight answers are counted over about the latest thousand."""
    UNSEEN_S = 0.0008
    """What of the way out nobody here can see: behind the last byte handed over come the kernel and the caller's own
    reading. Of the late answers of two overloads two thirds were late by less than that, at five times the capacity."""
    SPAN_S, LEAST, MOST = 10.0, 256, 4096

    def __init__(self, floor_s: float = 0.002, clock: Clock = MONOTONIC) -> None:
        self._floor_s = floor_s
        self._clock = clock
        self._latest = Window(self.SPAN_S, self.LEAST, self.MOST)
        self._tight = 0.0

    def observe(self, reply_s: float, left_s: float, budget_s: float) -> None:
        """Note one reply.

        Args:
            reply_s: seconds it took.
            left_s: seconds there were until the deadline when it began.
            budget_s: the whole budget.
        """
        tight = left_s <= self._but(self.ACCIDENTS, budget_s)
        self._tight = self.KEEPS * self._tight + (1 - self.KEEPS) * tight
        self._latest.add(reply_s, self._clock())

    def of(self, budget_s: float) -> float:
        """Seconds to keep in hand of a budget of that many seconds."""
        over = min(self.MOST_OVER, self.SPARE / self._tight) if self._tight else self.MOST_OVER
        return self._but(max(self.ACCIDENTS, int(over * len(self._latest))), budget_s)

    def _but(self, count: int, budget_s: float) -> float:
        """The reserve that all but so many of the latest replies kept."""
        learned_s = self._latest.largest_but(count) + self.UNSEEN_S if len(self._latest) else 0.0
        return min(max(self._floor_s, learned_s), budget_s / 2)
