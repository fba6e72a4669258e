"""The deadline: made once at the door, an absolute instant that every stage is measured against."""

from dataclasses import dataclass, field

from serving.budget.clock import MONOTONIC, Clock


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at the door.

    Attributes:
        taken_s: the instant at which our code first saw it.
        caller_s: what was left of the caller's own deadline at that instant; None if the caller set none.
        waited_s: how long it had been waiting for the event loop by then.
    """

    taken_s: float
    caller_s: float | None = None
    waited_s: float = 0.0

    @property
    def arrived_s(self) -> float:
        """When the request arrived, as far as can be told."""
        return self.taken_s - self.waited_s

    @property
    def hopeless(self) -> bool:
        """Whether the caller has stopped listening. The wait is only an estimate, and no ground to refuse anyone."""
        return self.caller_s is not None and self.caller_s <= 0


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant by which an answer must be out.

    Attributes:
        at_s: the instant, in seconds of `clock`.
        budget_s: what the request had been given in full when it arrived.
    """

    at_s: float
    budget_s: float
    clock: Clock = field(default=MONOTONIC, repr=False, compare=False)

    @classmethod
    def at_door(cls, arrival: Arrival, budget_s: float, clock: Clock = MONOTONIC) -> "Deadline":
        """The lesser of the caller's time and the vertical's budget; without a caller's deadline, the budget.

        The budget runs from the arrival, so time lost before our code ran counts. The caller's remaining time was
        measured when the request was taken up, so the loss is in it already.
        """
        at_s = arrival.arrived_s + budget_s
        if arrival.caller_s is not None:
            at_s = min(at_s, arrival.taken_s + arrival.caller_s)
        return cls(at_s, at_s - arrival.arrived_s, clock)

    @classmethod
    def after(cls, seconds: float, clock: Clock = MONOTONIC) -> "Deadline":
        """A deadline that many seconds from now."""
        return cls(clock() + seconds, seconds, clock)

    def remaining_s(self) -> float:
        """Seconds left, negative once the deadline has passed."""
        return self.at_s - self.clock()

    def less(self, reserve_s: float) -> "Deadline":
        """The same deadline, earlier by what must stay in hand for the reply."""
        return Deadline(self.at_s - reserve_s, self.budget_s, self.clock)
