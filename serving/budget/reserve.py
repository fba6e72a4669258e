"""The reply reserve: the part of the budget that the answer's own way out needs."""

from collections import deque
from heapq import nlargest


class ReplyReserve:
    """What all but two of the latest replies took at most, from the end of scoring to the last byte handed over.

    Never less than the floor, and never more than half of a budget: under a burst of slow replies scoring must not stop
    altogether, or there would be nothing left to learn from. A reply that overruns the reserve is late, and of those
    there may be one in a thousand, from every cause: so of some thousands only two are taken for accidents.
    """

    ACCIDENTS = 2

    def __init__(self, floor_s: float = 0.002, window: int = 4096, every: int = 64) -> None:
        self._floor_s = floor_s
        self._samples: deque[float] = deque(maxlen=window)
        self._every = every
        self._fresh = 0
        self._learned_s = 0.0

    def observe(self, reply_s: float) -> None:
        """Note one reply's time in seconds."""
        self._samples.append(reply_s)
        self._fresh += 1
        if self._fresh >= self._every:
            self._fresh = 0
            self._learned_s = nlargest(self.ACCIDENTS + 1, self._samples)[-1]

    def of(self, budget_s: float) -> float:
        """Seconds to keep in hand of a budget of that many seconds."""
        return min(max(self._floor_s, self._learned_s), budget_s / 2)
