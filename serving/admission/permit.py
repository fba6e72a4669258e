"""The right to occupy capacity, which ends exactly once, and how it can end."""

from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from serving.admission.law import Sample
from serving.admission.priority import Priority
from serving.errors import BusyError, LateError

_WANT_OF_CAPACITY = (BusyError, LateError, TimeoutError)


class Outcome(StrEnum):
    """What can become of a request at the gate.

    ENTERED = SUCCEEDED + IGNORED + DROPPED + those still in flight. REFUSED never entered. LEAKED are those among the
    ignored whose permit nobody closed.
    """

    ENTERED = "entered"
    REFUSED = "refused"
    SUCCEEDED = "succeeded"
    IGNORED = "ignored"
    DROPPED = "dropped"
    LEAKED = "leaked"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a permit stands for: a priority, a cost, when it entered, and the cost in flight then, its own included."""

    priority: Priority
    cost_ns: int
    entered_s: float
    in_flight_s: float

    @property
    def cost_s(self) -> float:
        """Seconds of service predicted."""
        return self.cost_ns / 1e9


class Giver(Protocol):
    """What gives permits, as they see it."""

    def now_s(self) -> float:
        """Seconds on the giver's clock."""
        ...

    def end(self, grant: Grant, outcome: Outcome, sample: Sample) -> None:
        """Take a grant back, and learn from it."""
        ...

    def lose(self, grant: Grant) -> None:
        """Note a grant that nobody gave back; called at any moment, even amid `end`."""
        ...


class Permit:
    """Capacity held until `succeed`, `ignore` or `drop`; the first one counts, later ones do nothing.

    As a context manager it ends by how the block is left: normally, it succeeded and took the time since entry; by an
    error that says there was no capacity (`BusyError`, `LateError`, `TimeoutError`), it is dropped; by anything else,
    cancellation included, it is ignored, because a fault or a caller that went away tells nothing of the load. Inside
    the block it may be ended by hand, with the same right.
    """

    __slots__ = ("__weakref__", "_giver", "_open", "grant")

    def __init__(self, grant: Grant, giver: Giver) -> None:
        self.grant = grant
        self._giver = giver
        self._open = True

    @property
    def open(self) -> bool:
        """Whether it still holds capacity."""
        return self._open

    def succeed(self, latency_s: float | None = None) -> None:
        """The work was done and took `latency_s`, by default the time since entry; the law learns from it.

        Raises:
            ValueError: the latency is negative or not finite; the permit stays open.
        """
        self._end(Outcome.SUCCEEDED, latency_s)

    def ignore(self) -> None:
        """The work ended for a reason that tells nothing of the load; the law learns nothing."""
        self._end(Outcome.IGNORED)

    def drop(self) -> None:
        """The work was given up for want of capacity; the law learns that it was too much."""
        self._end(Outcome.DROPPED)

    def _end(self, outcome: Outcome, latency_s: float | None = None) -> None:
        if not self._open:
            return
        grant = self.grant
        took_s = max(self._giver.now_s() - grant.entered_s, 0.0) if latency_s is None else latency_s
        sample = Sample(took_s, grant.cost_s, grant.in_flight_s, outcome is Outcome.DROPPED)
        self._open = False
        self._giver.end(grant, outcome, sample)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.succeed()
        elif issubclass(kind, _WANT_OF_CAPACITY):
            self.drop()
        else:
            self.ignore()

    def __del__(self) -> None:
        if self._open:
            self._open = False
            self._giver.lose(self.grant)
