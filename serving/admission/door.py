"""The door: how many requests are refused before any work is done on them, so that the way in stays short."""

from collections import deque

from serving.admission.priority import Priority


class Door:
    """Sheds a share of the requests while the way in is longer than it should be.

    What waits for the model is the gate's affair. Past a few times the rated load the frontend itself is what runs out:
    requests then queue where no code of ours sees them, and every one arrives with its budget spent. So the length of
    that way is measured, and the share that is refused at once, at a fraction of an answer's cost, is moved until it is
    short again: up in proportion to the excess, down by even steps. One long wait is a hiccup, not a crowd, so it goes
    by the median of the latest three.

    Requests are refused evenly, not in bursts. Lower priorities go first: the share that is to go is taken from SHADOW,
    then from NORMAL, then from LIVE, as far as their shares of the traffic go.
    """

    UP = 0.04
    """Added to the share per observation and per multiple of the target by which the wait exceeds it."""
    STEEPEST = 2.0
    DOWN = 0.012
    """Taken off per observation within the target: all is taken in again within a second."""
    MOST = 0.98
    """Somebody must come through, or there would be no recovery to see."""
    FADES = 0.98
    """Memory of the traffic's mix, per request."""

    def __init__(self, target_s: float) -> None:
        """Keep the way in within `target_s`; `ValueError` unless that is positive."""
        if not target_s > 0:
            raise ValueError(f"target_s is {target_s}; expected a positive number of seconds")
        self._target_s = target_s
        self._share = 0.0
        self._latest = deque((0.0, 0.0, 0.0), maxlen=3)
        self._mix = dict.fromkeys(Priority, 0.0)
        self._credit = dict.fromkeys(Priority, 0.0)
        self.wait_s = 0.0

    @property
    def share(self) -> float:
        """Share of all requests that is refused now, 0 to `MOST`."""
        return self._share

    def observe(self, wait_s: float) -> None:
        """Learn how long the way in took just now, in seconds; to be told at even intervals."""
        self._latest.append(wait_s)
        self.wait_s = sorted(self._latest)[1]
        excess = self.wait_s / self._target_s - 1
        step = self.UP * min(excess, self.STEEPEST) if excess > 0 else -self.DOWN
        self._share = min(max(self._share + step, 0.0), self.MOST)

    def admits(self, priority: Priority) -> bool:
        """Whether this request may come in."""
        for each in Priority:
            self._mix[each] = self.FADES * self._mix[each] + (1 - self.FADES) * (each is priority)
        self._credit[priority] += self._share_of(priority)
        if self._credit[priority] < 1:
            return True
        self._credit[priority] -= 1
        return False

    def _share_of(self, priority: Priority) -> float:
        """Which share of that priority's requests has to go."""
        lower = sum(self._mix[each] for each in Priority if each > priority)
        total = sum(self._mix.values())
        left = self._share * total - lower
        return min(max(left / self._mix[priority], 0.0), 1.0) if self._mix[priority] else self._share
