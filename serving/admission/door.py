"""The door: how many requests are refused before any work is done on them, so that the way in stays short."""

from collections import deque

from serving.admission.priority import ORDER, Priority


class Door:
    """Sheds a share of the requests while the way in is longer than it should be.

    What waits for the model is the gate's affair. Past a few times the rated load the frontend itself is what runs out:
    requests then queue where no code of ours sees them, and every one arrives with its budget spent. So the length of
    that way is measured, and a share is refused at once, at a fraction of an answer's cost, until it is short again.

    A proportional-integral law, as queue managers have it (RFC 8033): the integral part follows how much too much comes
    in, the proportional one how long the way is at the moment. The latter refuses more while a queue is there and lets
    all come in as soon as there is none; without it the share swings, for the queue itself sums up what it is given.
    One long wait is a hiccup, not a crowd: nothing more is refused for it until the median of the latest three is too
    long.

    Requests are refused evenly, not in bursts. Lower priorities go first: the integral part is taken from SHADOW, then
    from NORMAL, then from LIVE, as far as their shares of the traffic go. The proportional one is the matter of the
    priority that goes in part, so that none suffers while a lower one comes in.
    """

    FOLLOWS = 0.02
    """Added to the integral part, per observation and per multiple of the target that the wait is off it."""
    STEEPEST = 4.0
    LEANS = 0.5
    """The proportional part, per multiple of the target that the wait is off it."""
    MOST = 0.98
    """Somebody must come through, or there would be no recovery to see."""
    FADES = 0.98
    """Memory of the traffic's mix, per request."""

    def __init__(self, target_s: float) -> None:
        """Keep the way in within `target_s`; `ValueError` unless that is positive."""
        if not target_s > 0:
            raise ValueError(f"target_s is {target_s}; expected a positive number of seconds")
        self._target_s = target_s
        self._crowd = 0.0
        self._latest = deque((0.0, 0.0, 0.0), maxlen=3)
        self._mix = dict.fromkeys(Priority, 0.0)
        self._credit = dict.fromkeys(Priority, 0.0)
        self.wait_s = 0.0

    @property
    def share(self) -> float:
        """Share of all requests that is refused now, were all of one priority; 0 to `MOST`."""
        return self._leaning(self._crowd, 0.0)

    def observe(self, wait_s: float) -> None:
        """Learn how long the way in took just now, in seconds; to be told at even intervals."""
        self._latest.append(wait_s)
        self.wait_s = sorted(self._latest)[1]
        step = self.FOLLOWS * min(self._off(self.wait_s), self.STEEPEST)
        self._crowd = min(max(self._crowd + step, 0.0), self.MOST)

    def admits(self, priority: Priority, wait_s: float = 0.0) -> bool:
        """Whether this request, which is taken to have waited for `wait_s`, may come in."""
        for each in ORDER:
            self._mix[each] = self.FADES * self._mix[each] + (1 - self.FADES) * (each is priority)
        self._credit[priority] += self._part(priority, wait_s)
        if self._credit[priority] < 1:
            return True
        self._credit[priority] -= 1
        return False

    def _part(self, priority: Priority, wait_s: float) -> float:
        """Which part of that priority's requests has to go now."""
        lower = sum(self._mix[each] for each in ORDER[priority + 1 :])
        part = (self._crowd * sum(self._mix.values()) - lower) / self._mix[priority]
        return self._leaning(part, wait_s) if part < 1 else 1.0

    def _leaning(self, part: float, wait_s: float) -> float:
        """What the moment makes of a part, for a request that has waited for `wait_s`."""
        if part <= 0:
            return 0.0
        off = self._off(max(wait_s, self.wait_s))
        if self.wait_s <= self._target_s:
            off = min(off, 0.0)
        return min(max(part + self.LEANS * off, 0.0), self.MOST)

    def _off(self, wait_s: float) -> float:
        """How far the way is from the target, in multiples of it."""
        return wait_s / self._target_s - 1
