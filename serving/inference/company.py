"""When a short call begins: how long it does well to wait for company.

Pure logic: time and predictions come from outside. A call has a fixed cost, in the frontend, in the server and in the
model's process; requests that share it are the cheaper for it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from serving.budget.estimates import Estimates, Outlook

AFTER = 2.0
"""Calls of up to so many times the fixed cost go one after the other: that is half of them at least."""
TOGETHER = 4.0
"""Up to so many times the fixed cost requests are gathered: each shares a quarter of the call at least."""
LINGER = 0.12
"""The share of a budget that gathering may take."""
TICK_S = 0.001
"""A timer of the event loop may be late by so much."""
SEEN = 16
"""Requests by whose coming it is judged how thick they come."""


@dataclass(eq=False)
class Span:
    """An outstanding call: its candidates, when it began and is predicted to end; `p99_s` is what it takes at most."""

    rows: int
    began_s: float
    ends_s: float
    p99_s: float


class Company:
    """Says until when a call of few candidates is held back; large ones never are.

    Only where requests come so thick that within `linger_s` another one is to be expected, and for two reasons: a short
    call runs, and what comes meanwhile can share the next one; or the last one began so lately that company is still
    to come. The thicker they come, the longer: not at all where one comes per `linger_s`, all of it where two do.
    Nothing is held where that could make a request late.

    Args:
        estimates: what calls take.
        linger_s: how far the beginnings of short calls may be put apart, and never by more than four times the fixed
            cost, lest they wait for what saves them little; 0: not at all, and short calls that run are
            waited for however thin requests come.
    """

    def __init__(self, estimates: Estimates, linger_s: float = 0.0) -> None:
        self._estimates, self._most_s = estimates, linger_s
        self._came_s: deque[float] = deque(maxlen=SEEN)
        self._began_s = float("-inf")

    def came(self, candidates: int, now_s: float) -> None:
        """A request came."""
        if candidates <= _cheap(self._estimates.outlook(), TOGETHER):
            self._came_s.append(now_s)

    def began(self, rows: int, now_s: float) -> None:
        """A call of so many candidates began."""
        if rows <= _cheap(self._estimates.outlook(), TOGETHER):
            self._began_s = now_s

    def linger_s(self, now_s: float) -> float:
        """How far the beginnings of short calls are put apart now."""
        return self._apart_s(now_s, self._estimates.mean_s(0))

    def _expected(self, now_s: float) -> float:
        """How many requests come within the time that gathering may take."""
        if len(self._came_s) < SEEN:
            return 0.0
        took_s = now_s - self._came_s[0]
        return self._most_s * SEEN / took_s if took_s > 0 else float("inf")

    def until_s(self, running: Iterable[Span], waiting: int, late_s: float, now_s: float) -> float | None:
        """The instant before which a call should not begin; None: it may now.

        Args:
            running: the outstanding calls.
            waiting: candidates of those who would go together.
            late_s: from when one of them would be late, were it alone.
            now_s: the present instant.
        """
        if self._most_s and self._expected(now_s) <= 1:
            return None
        outlook = self._estimates.outlook()
        fixed_s, until_s = outlook.mean_s(0), now_s
        last_s = late_s - (outlook.p99_s(waiting) - fixed_s) - TICK_S
        if waiting <= (cheap := _cheap(outlook, AFTER)):
            ends = [call for call in running if call.rows <= cheap and call.ends_s > now_s]
            first = min(ends, key=lambda call: call.ends_s, default=None)
            if first and first.began_s + first.p99_s <= last_s:
                until_s = first.ends_s
        gathered_s = self._began_s + self._apart_s(now_s, fixed_s)
        if waiting <= _cheap(outlook, TOGETHER) and gathered_s <= last_s:
            until_s = max(until_s, gathered_s)
        return until_s if until_s > now_s else None

    def _apart_s(self, now_s: float, fixed_s: float) -> float:
        """See `linger_s`; `fixed_s` is a call's fixed cost."""
        return min(self._most_s, TOGETHER * fixed_s) * min(max(self._expected(now_s) - 1.0, 0.0), 1.0)


def _cheap(outlook: Outlook, times: float) -> int:
    """The most candidates of a call that takes no more than so many times the fixed cost."""
    return outlook.most(float("inf"), times * outlook.mean_s(0))
