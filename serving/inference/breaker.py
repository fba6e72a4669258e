"""When to stop asking a backend, and when to ask it again: pure logic, told of every call and every canary."""

from collections import Counter
from enum import StrEnum

from serving.budget.clock import MONOTONIC, Clock
from serving.inference.canary import Finding


class State(StrEnum):
    """Of a breaker; requests pass only while it is closed."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"  # a canary is on its way to say whether the backend is back
    OPEN = "open"


class Cause(StrEnum):
    """Why it is open, or was last."""

    NEW = "new"  # no canary has passed yet
    WRONG = "wrong"
    GONE = "gone"
    SILENT = "silent"


class Breaker:
    """Opens for a wrong answer, for a backend that is gone, and for silence; only the scored canary closes it.

    Silence is told from load: an overloaded backend answers some calls, a hung one none. So it counts calls in a row
    that went unanswered for longer than expected. It opens once there are `LATE` of them and `OVERDUE` times as long as
    expected has passed since the first, time in which a living backend would have answered a later call. This also
    tells a hung backend from a stall of our own, after which many calls are found late at once. A backend that has
    become several times slower may look the same for as long; its next right answer brings it back.

    A canary that is silent says the same of a backend which nobody asks, at the second in a row.

    What comes back after having been gone or wrong may be another model, so the canary must pass: right, and inside
    its share of the budget. After silence any right answer will do, since an answer is all that was missing.

    Source: Nygard, Release It!, for the three states; here the probe is never a user's request.
    """

    LATE = 3
    OVERDUE = 3.0
    STRIKES = 2

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._state = State.OPEN
        self._cause = Cause.NEW
        self._row = self._silent = 0
        self._since_s = self._expected_s = 0.0
        self._ejections: Counter[Cause] = Counter()

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    @property
    def cause(self) -> Cause:
        """Why it opened last."""
        return self._cause

    @property
    def closed(self) -> bool:
        """Whether requests pass."""
        return self._state is State.CLOSED

    @property
    def ejections(self) -> dict[Cause, int]:
        """How often it opened, by cause."""
        return {cause: self._ejections[cause] for cause in (Cause.WRONG, Cause.GONE, Cause.SILENT)}

    def answered(self) -> None:
        """A request got its scores."""
        self._row = self._silent = 0

    def unanswered(self, expected_s: float) -> None:
        """A request was given up that should have had its scores by now; they were expected within `expected_s`."""
        if not self.closed:
            return
        now_s = self._clock()
        if self._row == 0:
            # The predictions of later calls have suffered from the silence already.
            self._since_s, self._expected_s = now_s, expected_s
        self._row += 1
        if self._row >= self.LATE and now_s - self._since_s >= self.OVERDUE * self._expected_s:
            self._open(Cause.SILENT)

    def gone(self) -> None:
        """A request met nobody there."""
        self._open(Cause.GONE)

    def depart(self) -> None:
        """A canary leaves."""
        if self._state is State.OPEN:
            self._state = State.HALF_OPEN

    def arrive(self, finding: Finding) -> None:
        """A canary is back; every `depart` must be followed by one."""
        self._silent = self._silent + 1 if finding is Finding.SILENT else 0
        if finding is Finding.PASSED or (finding is Finding.SLOW and self._cause is Cause.SILENT):
            self._close()
        elif finding is Finding.WRONG:
            self._open(Cause.WRONG)
        elif finding is Finding.GONE:
            self._open(Cause.GONE)
        elif self._silent >= self.STRIKES:
            self._open(Cause.SILENT)
        elif self._state is State.HALF_OPEN:
            self._state = State.OPEN

    def _close(self) -> None:
        if not self.closed:
            self._row = 0
        self._state = State.CLOSED

    def _open(self, cause: Cause) -> None:
        # One that is open for want of the right answer doesn't come to be open for mere silence.
        if self.closed:
            self._ejections[cause] += 1
            self._cause = cause
        elif cause is not Cause.SILENT:
            self._cause = cause
        self._state = State.OPEN
