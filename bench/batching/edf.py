"""Earliest deadline first: which waiting requests go into the next jagged batch, and which can't make it any more.

Pure logic: time and predictions come from outside. Shape of the rule: Nexus (SOSP 2019) and Clockwork (OSDI 2020),
early drop of what cannot finish, batches no larger than the first deadline in them allows.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Predict = Callable[[int], float]
"""Seconds that one call with so many candidates takes; never negative, and never less for more candidates."""


@dataclass(frozen=True, order=True, slots=True)
class Ticket(Generic[Item]):
    """A waiting request, in the order of service: the earlier deadline first, ties by arrival.

    Attributes:
        deadline_s: the instant by which its scores must be there.
        order: how many came before it.
        candidates: its size.
        item: the request itself.
    """

    deadline_s: float
    order: int
    candidates: int = field(compare=False)
    item: Item = field(compare=False)


@dataclass(frozen=True)
class Choice(Generic[Item]):
    """What leaves the queue at once.

    Attributes:
        batch: the requests of the next call, earliest deadline first; empty if none is left.
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

    def __init__(self, predict: Predict, most: int) -> None:
        """A queue whose batches hold at most `most` (>= 1) requests."""
        if most < 1:
            raise ValueError(f"most must be >= 1, got {most}")
        self._predict = predict
        self._most = most
        self._waiting: list[Ticket[Item]] = []
        self._offered = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, item: Item, deadline_s: float, candidates: int, free_s: Sequence[float]) -> bool:
        """Take a request in, unless it is predicted to finish past its deadline.

        Args:
            item: the request.
            deadline_s: its deadline.
            candidates: its size.
            free_s: for each call that may be outstanding the instant at which it can begin: now, or when the one that
                runs is predicted to end.

        Returns:
            Whether it waits now; if not, it is the caller's to answer otherwise.
        """
        ticket = Ticket(deadline_s, self._offered, candidates, item)
        self._offered += 1
        if self._start_s(ticket, free_s) + self._predict(candidates) > deadline_s:
            return False
        bisect.insort(self._waiting, ticket)
        return True

    def choose(self, now_s: float) -> Choice[Item]:
        """Take the next batch out, with what has become hopeless before it.

        The batch grows, earliest deadline first, while its predicted finish keeps the first deadline in it.
        """
        batch: list[Ticket[Item]] = []
        dropped: list[Ticket[Item]] = []
        rows = taken = 0
        for ticket in self._waiting:
            if len(batch) == self._most:
                break
            if now_s + self._predict(ticket.candidates) > ticket.deadline_s:
                dropped.append(ticket)
            elif batch and now_s + self._predict(rows + ticket.candidates) > batch[0].deadline_s:
                break
            else:
                batch.append(ticket)
                rows += ticket.candidates
            taken += 1
        del self._waiting[:taken]
        return Choice(tuple(batch), tuple(dropped))

    def _start_s(self, ticket: Ticket[Item], free_s: Sequence[float]) -> float:
        """When its turn comes: those before it each go to the call that is free first.

        They share calls, so of what a call costs only the part that grows with the candidates counts for them.
        """
        ends_s = list(free_s)
        fixed_s = self._predict(0)
        for ahead in self._waiting[: bisect.bisect(self._waiting, ticket)]:
            first = min(range(len(ends_s)), key=ends_s.__getitem__)
            ends_s[first] += self._predict(ahead.candidates) - fixed_s
        return min(ends_s)
