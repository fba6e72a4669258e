"""When workers stop for others: a pure law, told what the machine does and answering whether they may run."""

from dataclasses import dataclass, field
from math import inf

LONGEST_S = 0.2
"""No stop lasts longer at a stretch."""
TURN_S = 0.01
"""What they get after such a stop, whoever else runs: a twentieth of the time, so that nothing waits for ever."""


@dataclass
class Way:
    """Workers run while nobody else does, and stay off for a while after.

    Requests that queue behind one another, of which the tail is made, come soon after others; in that while the caches
    stay theirs.

    Attributes:
        quiet_s: how long nobody else must have run.
        runs: whether they may run now.
    """

    quiet_s: float
    runs: bool = True
    _heard_s: float = field(default=-inf, init=False)
    _stopped_s: float = field(default=0.0, init=False)
    _turn_ends_s: float = field(default=-inf, init=False)

    def hear(self, others: bool, now_s: float) -> bool:
        """Whether they may run, now that others do or don't; `now_s` is monotonic."""
        if others:
            self._heard_s = now_s
        if self.runs:
            if now_s >= self._turn_ends_s and now_s - self._heard_s < self.quiet_s:
                self.runs, self._stopped_s = False, now_s
        elif now_s - self._heard_s >= self.quiet_s:
            self.runs = True
        elif now_s - self._stopped_s >= LONGEST_S:
            self.runs, self._turn_ends_s = True, now_s + TURN_S
        return self.runs


@dataclass
class MostlyStopped:
    """Notices that workers hardly ever run."""

    minute_s: float = 60.0
    share: float = 0.9
    _begun_s: float = field(default=inf, init=False)
    _heard_s: float = field(default=0.0, init=False)
    _stopped_s: float = field(default=0.0, init=False)

    def hear(self, runs: bool, now_s: float) -> bool:
        """Whether a minute is over in which they stood still for more than that share of it."""
        if self._begun_s == inf:
            self._begun_s = self._heard_s = now_s
        self._stopped_s += 0.0 if runs else now_s - self._heard_s
        self._heard_s = now_s
        over_s = now_s - self._begun_s
        if over_s < self.minute_s:
            return False
        stopped_s, self._begun_s, self._stopped_s = self._stopped_s, now_s, 0.0
        return stopped_s > self.share * over_s
