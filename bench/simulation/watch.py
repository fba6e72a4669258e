"""The eyes on a world: what must hold, noted where it happens and looked at before every step of the clock.

The invariants, each a word in the message of its violation:

- `unanswered`, `late`: no request is open, and none is answered, past the instant at which its answer is due and an
  epsilon: its deadline less the least reserve for a reply, both worked out by the world, and less the reserve that the
  server itself keeps; or its caller's cancellation;
- `twice`: none is answered again;
- `scores`: an answer holds for each candidate what the tier that it names says of that ad in that request: the model,
  or one edition of the prior; a trimmed one the model's for those that the prior finds most promising, and the others
  behind them in the prior's order;
- `limit`: what is in flight at a gate is no more than the limit was when the last permit was given, unless that
  permit was alone; a limit that falls below what is in flight is obeyed by letting nobody in;
- `shares`: no priority is refused inside its guaranteed share while the limit has room, and none is lent more than its
  share while a higher one waits;
- `permits`: a gate counts the permits that were given and not ended, and their costs, exactly; each ends once and none
  is forgotten; and each belongs to a request that is open, or that was answered less than `LINGER_S` ago, for what is
  given up may still occupy the backend;
- `work`: no piece of work runs without a permit;
- `counters`: offered = answered + open; entered = ended + in flight by priority; calls and requests of the batchers as
  the backends saw them;
- `hedges`: no more than their tokens;
- `queue`: nobody waits past the hope to be in time, or for a backend that isn't trusted, and no more calls are
  outstanding than may be;
- `batch`: within its bounds and begun in time, shadow requests never in others' company;
- `trust`: a backend that is well again is trusted again;
- `recovery`: and then small requests are answered by a model again;
- `callback`: no callback or task fails unheard.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

EPSILON_S = 1e-5
LINGER_S = 0.5


class ViolationError(AssertionError):
    """An invariant doesn't hold; the message says which, when, and in which seed."""


@dataclass(eq=False, slots=True)
class Ask:
    """One request, as its caller knows it.

    Attributes:
        number: within its world.
        end: what became of it: a tier, a refusal or its caller's cancellation; empty while it is open.
        permits: that were given to it and have not ended.
        due_s: when it must have been answered.
    """

    number: int
    end: str = ""
    permits: int = 0
    due_s: float = float("inf")


ASKING: ContextVar[Ask] = ContextVar("ASKING")
"""The request that the code at hand works for; tasks and timers inherit it."""


class Part(Protocol):
    """Something that can be looked at."""

    def look(self) -> None:
        """Tell the watch of what doesn't hold."""
        ...


class Watch:
    """Knows every request, and raises what it or a part has found.

    Attributes:
        offered: requests so far.
        ends: what became of those that were answered.
    """

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        self.seed = seed
        self.offered = 0
        self.ends: Counter[str] = Counter()
        self.open: dict[Ask, None] = {}
        self.steps = 0
        self._clock = clock
        self._answered = 0
        self._faults: list[str] = []
        self._due: list[tuple[float, int, Ask]] = []
        self._lingering: deque[tuple[float, Ask]] = deque()
        self._parts: tuple[Part, ...] = ()

    def over(self, parts: Sequence[Part]) -> None:
        """These are looked at from now on."""
        self._parts = tuple(parts)

    def fault(self, what: str) -> None:
        """Something doesn't hold; raised at the next step, for the code under test would take it for its own."""
        self._faults.append(f"seed {self.seed} at {self._clock():.6f} s: {what}")

    def hold(self, holds: bool, what: str) -> None:
        """Raise at once, from the world's own code."""
        if not holds:
            self.fault(what)
            self._raise()

    def offer(self) -> Ask:
        """A request has come."""
        ask = Ask(self.offered)
        self.offered += 1
        self.open[ask] = None
        return ask

    def due(self, ask: Ask, at_s: float) -> None:
        """Its answer must be there by then."""
        ask.due_s = at_s + EPSILON_S
        heapq.heappush(self._due, (ask.due_s, ask.number, ask))

    def answer(self, ask: Ask, end: str) -> None:
        """A request has its answer."""
        if ask.end:
            self.fault(f"twice: request {ask.number} was answered {ask.end}, then {end}")
            return
        if self._clock() > ask.due_s:
            self.fault(f"late: request {ask.number} was answered {end} {self._clock() - ask.due_s:.6f} s past its time")
        ask.end = end
        self._answered += 1
        self.ends[end] += 1
        del self.open[ask]
        if ask.permits:
            self._lingering.append((self._clock() + LINGER_S, ask))

    def look(self) -> None:
        """Before the clock moves."""
        self.steps += 1
        now_s, due, lingering = self._clock(), self._due, self._lingering
        while due and due[0][2].end:
            heapq.heappop(due)
        if due and due[0][0] < now_s:
            self.fault(f"unanswered: request {due[0][1]}, {now_s - due[0][0]:.6f} s past its time")
        while lingering and (lingering[0][0] < now_s or not lingering[0][1].permits):
            _, ask = lingering.popleft()
            if ask.permits:
                self.fault(f"permits: {ask.permits} of request {ask.number} outlive it by {LINGER_S} s")
        if self.offered != self._answered + len(self.open) or self._answered != self.ends.total():
            self.fault(f"counters: {self.offered} offered, {self._answered} answered, {len(self.open)} open")
        for part in self._parts:
            part.look()
        if self._faults:
            self._raise()

    def _raise(self) -> None:
        raise ViolationError(self._faults[0])
