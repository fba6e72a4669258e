"""Earliest deadline first: which waiting requests go into the next jagged batch, and which can't make it any more.

Pure logic: time and predictions come from outside. Shape of the rule: Nexus (SOSP 2019) and Clockwork (OSDI 2020),
early drop of what cannot finish, batches no larger than the first deadline in them allows.
"""

import bisect
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Predict = Callable[[int], float]
"""Seconds that one call with so many candidates takes; never negative, and never less for more candidates."""


@dataclass(frozen=True, order=True, slots=True)
class Ticket(Generic[Item]):
    """A waiting request, in the order of service: background last, the earlier deadline first, ties by arrival.

    Attributes:
        background: nobody waits for it; it goes when nothing else does, and never in another's batch.
        deadline_s: the instant by which its scores must be there.
        order: how many came before it.
        candidates: its size.
        item: the request itself.
    """

    background: bool
    deadline_s: float
    order: int
    candidates: int = field(compare=False)
    item: Item = field(compare=False)


@dataclass(frozen=True, slots=True)
class Choice(Generic[Item]):
    """What leaves the queue at once.

    Attributes:
        batch: the requests of the next call, earliest deadline first; empty if none may go.
        dropped: those that would finish past their deadline even if they were served alone and now.
    """

    batch: tuple[Ticket[Item], ...]
    dropped: tuple[Ticket[Item], ...]

    @property
    def candidates(self) -> int:
        """Rows of the batch."""
        return sum(ticket.candidates for ticket in self.batch)


class EdfQueue(Generic[Item]):
    """The waiting requests of one model."""

    def __init__(self, predict: Predict, most: int, most_rows: int) -> None:
        """An empty queue.

        Args:
            predict: what a call takes.
            most: the most requests in a batch, >= 1.
            most_rows: the most candidates in a batch of several requests. With as many as the largest request may
                have, no call is longer than that one's, and a small request is not held up by large company.
        """
        if most < 1:
            raise ValueError(f"most must be >= 1, got {most}")
        self._predict = predict
        self._most, self._most_rows = most, most_rows
        self._waiting: list[Ticket[Item]] = []
        self._offered = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first_late_s(self) -> float:
        """The first instant from which a waiting request would be late; never, if none waits."""
        return min(map(self.late_s, self._waiting), default=float("inf"))

    @property
    def together(self) -> tuple[int, int]:
        """How many wait who may go with others, and their candidates: all but the background."""
        sizes = [ticket.candidates for ticket in self._waiting if not ticket.background]
        return len(sizes), sum(sizes)

    def offer(
        self,
        item: Item,
        deadline_s: float,
        candidates: int,
        free_s: Sequence[float] | None,
        *,
        now_s: float = 0.0,
        background: bool = False,
    ) -> Ticket[Item] | None:
        """Take a request in, unless it is predicted to finish past its deadline; None: it is the caller's to answer.

        Args:
            item: the request.
            deadline_s: its deadline.
            candidates: its size.
            free_s: for each call that may be outstanding the instant at which it can begin: now, or when the one that
                runs is predicted to end. None: it goes at once, past those who wait.
            now_s: the present instant, if it does.
            background: see `Ticket`.
        """
        ticket = Ticket(background, deadline_s, self._offered, candidates, item)
        self._offered += 1
        start_s = now_s if free_s is None else self._start_s(ticket, free_s)
        if start_s + self._predict(candidates) > deadline_s:
            return None
        bisect.insort(self._waiting, ticket)
        return ticket

    def start_s(self, deadline_s: float, free_s: Sequence[float]) -> float:
        """The instant from which a request with that deadline, were it alone, would end when it will."""
        return self._start_s(Ticket(False, deadline_s, self._offered, 0, None), free_s)

    def remove(self, ticket: Ticket[Item]) -> bool:
        """Take a request out that is given up; False: it has left already."""
        place = bisect.bisect_left(self._waiting, ticket)
        if place == len(self._waiting) or self._waiting[place] is not ticket:
            return False
        del self._waiting[place]
        return True

    def clear(self) -> list[Ticket[Item]]:
        """Take all out."""
        left, self._waiting = self._waiting, []
        return left

    def late_s(self, ticket: Ticket[Item]) -> float:
        """From this instant on it would finish past its deadline even if it were served alone."""
        return ticket.deadline_s - self._predict(ticket.candidates)

    def drop_late(self, now_s: float) -> tuple[list[Ticket[Item]], float]:
        """Take out what has become hopeless; to be asked when predictions have changed.

        Returns:
            What was taken out, and the first instant from which one of the others would be late; never, without any.
        """
        ends_s = [(self.late_s(ticket), ticket) for ticket in self._waiting]
        late = [ticket for late_s, ticket in ends_s if late_s <= now_s]
        if late:
            self._waiting = [ticket for late_s, ticket in ends_s if late_s > now_s]
        return late, min((late_s for late_s, _ in ends_s if late_s > now_s), default=float("inf"))

    def choose(self, now_s: float, largest: int | None = None) -> Choice[Item]:
        """Take the next batch out, with what has become hopeless before it.

        With `largest`, only of requests with no more candidates than that, the background left out, and no more of them
        together; the others keep their places.

        The batch grows in the order of service, while its predicted finish keeps the first deadline in it.
        """
        batch: list[Ticket[Item]] = []
        dropped: list[Ticket[Item]] = []
        kept: list[Ticket[Item]] = []
        rows = taken = 0
        for ticket in self._waiting:
            if len(batch) == self._most:
                break
            taken += 1
            if largest is not None and (ticket.background or rows + ticket.candidates > largest):
                kept.append(ticket)
            elif now_s > self.late_s(ticket):
                dropped.append(ticket)
            elif batch and not self._joins(ticket, batch[0], rows, now_s):
                taken -= 1
                break
            else:
                batch.append(ticket)
                rows += ticket.candidates
        self._waiting[:taken] = kept
        return Choice(tuple(batch), tuple(dropped))

    def _joins(self, ticket: Ticket[Item], first: Ticket[Item], rows: int, now_s: float) -> bool:
        rows += ticket.candidates
        alike = ticket.background == first.background and rows <= self._most_rows
        return alike and now_s + self._predict(rows) <= first.deadline_s

    def _start_s(self, ticket: Ticket[Item] | Ticket[None], free_s: Sequence[float]) -> float:
        """When its turn comes: those before it go in full batches, each to the call that is free first.

        The last ones share its own call, of which only the part that grows with the candidates counts for them.
        """
        ahead = self._waiting[: bisect.bisect_left(self._waiting, ticket)]
        ends_s, fixed_s = list(free_s), self._predict(0)
        heapq.heapify(ends_s)
        rows = count = 0
        for other in ahead:
            if count == self._most or (count and rows + other.candidates > self._most_rows):
                heapq.heapreplace(ends_s, ends_s[0] + self._predict(rows))
                rows = count = 0
            rows, count = rows + other.candidates, count + 1
        if count == self._most or (count and rows + ticket.candidates > self._most_rows):
            heapq.heapreplace(ends_s, ends_s[0] + self._predict(rows))
            rows = 0
        return ends_s[0] + self._predict(rows) - fixed_s
