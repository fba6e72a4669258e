"""Who may have how much of the limit: guaranteed shares, and what may be borrowed beyond them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serving.admission.priority import ORDER, Priority

DEFAULT_SHARES: Mapping[Priority, float] = MappingProxyType(
    {Priority.LIVE: 0.7, Priority.NORMAL: 0.2, Priority.SHADOW: 0.1}
)


@dataclass(slots=True)
class _Wait:
    """What a priority was lately refused, and when last."""

    claim_ns: int = 0
    at_s: float = float("-inf")


class Shares:
    """Divides a limit. Costs are integers in nanoseconds of service.

    - Inside its guaranteed share a priority is only bound by the limit itself.
    - Beyond it a priority borrows, which it may while no higher one waits, and while what lower ones claim of their own
      guaranteed shares stays free. Nothing is held free for a priority that asks for nothing.
    - A priority waits for `patience_s` after it was refused; what it was refused inside its guaranteed share meanwhile
      is its claim. So what others had borrowed comes back to it as their permits end, in reach of its next request.

    A request larger than its priority's share is never inside it: it gets in by borrowing, or asks again with less.
    """

    def __init__(self, shares: Mapping[Priority, float], patience_s: float = 0.1) -> None:
        """Raises ValueError unless every share is within [0, 1] and they sum to 1 at most; one left out is 0."""
        self._share = {priority: float(shares.get(priority, 0.0)) for priority in Priority}
        if not all(0 <= share <= 1 for share in self._share.values()) or sum(self._share.values()) > 1 + 1e-9:
            raise ValueError(f"shares {dict(shares)}: expected each within [0, 1], and 1 at most together")
        self._patience_s = patience_s
        self._waits = {priority: _Wait() for priority in Priority}
        self.used_ns = dict.fromkeys(Priority, 0)
        self.total_ns = 0

    def guaranteed_ns(self, priority: Priority, limit_ns: int) -> int:
        """The guaranteed share of that limit."""
        return int(self._share[priority] * limit_ns)

    def admits(self, priority: Priority, cost_ns: int, limit_ns: int, now_s: float) -> bool:
        """Whether the cost may be taken now; a refusal is remembered as waiting."""
        inside = self.used_ns[priority] + cost_ns <= self.guaranteed_ns(priority, limit_ns)
        fits = self.total_ns + cost_ns <= limit_ns or self.total_ns == 0
        if fits and (inside or self._may_borrow(priority, cost_ns, limit_ns, now_s)):
            return True
        self._note_refusal(priority, cost_ns if inside else 0, now_s)
        return False

    def room_ns(self, priority: Priority, limit_ns: int, now_s: float) -> int:
        """The largest cost that would be admitted now, but for one that may exceed an idle limit; notes nothing."""
        free_ns = limit_ns - self.total_ns
        inside_ns = self.guaranteed_ns(priority, limit_ns) - self.used_ns[priority]
        kept_ns = self._kept_ns(priority, limit_ns, now_s)
        lent_ns = 0 if kept_ns is None else free_ns - kept_ns
        return max(min(free_ns, max(inside_ns, lent_ns)), 0)

    def take(self, priority: Priority, cost_ns: int) -> None:
        """Put a cost in flight, and off the priority's claim."""
        self.used_ns[priority] += cost_ns
        self.total_ns += cost_ns
        wait = self._waits[priority]
        wait.claim_ns = max(wait.claim_ns - cost_ns, 0)

    def give_back(self, priority: Priority, cost_ns: int) -> None:
        """Take a cost out of flight."""
        self.used_ns[priority] -= cost_ns
        self.total_ns -= cost_ns

    def _may_borrow(self, priority: Priority, cost_ns: int, limit_ns: int, now_s: float) -> bool:
        kept_ns = self._kept_ns(priority, limit_ns, now_s)
        return kept_ns is not None and (kept_ns == 0 or self.total_ns + cost_ns + kept_ns <= limit_ns)

    def _kept_ns(self, priority: Priority, limit_ns: int, now_s: float) -> int | None:
        """What a loan to that priority must leave free for lower ones; None: a higher one waits, and there is none."""
        if any(self._waiting(other, now_s) for other in ORDER[:priority]):
            return None
        return sum(self._claimed_ns(other, limit_ns, now_s) for other in ORDER[priority + 1 :])

    def _waiting(self, priority: Priority, now_s: float) -> bool:
        return now_s - self._waits[priority].at_s <= self._patience_s

    def _claimed_ns(self, priority: Priority, limit_ns: int, now_s: float) -> int:
        if not self._waiting(priority, now_s):
            return 0
        unused_ns = max(self.guaranteed_ns(priority, limit_ns) - self.used_ns[priority], 0)
        return min(self._waits[priority].claim_ns, unused_ns)

    def _note_refusal(self, priority: Priority, cost_ns: int, now_s: float) -> None:
        wait = self._waits[priority]
        wait.claim_ns = cost_ns + (wait.claim_ns if self._waiting(priority, now_s) else 0)
        wait.at_s = now_s
