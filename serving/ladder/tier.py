"""The rungs of the ladder, and why an answer comes from a lower one."""

from enum import IntEnum, StrEnum

from serving.errors import BackendError, BadScoresError, BusyError, EjectedError, LateError, UnavailableError


class Tier(IntEnum):
    """How an answer was made, best first; the numbers are those of the public contract."""

    FULL = 1
    TRIMMED = 2
    LITE = 3
    PRIOR = 4

    @property
    def wire_name(self) -> str:
        """The name in the public contract."""
        return f"TIER_{self.name}"


class Reason(StrEnum):
    """Why an answer is not of the best tier; `tier_reason` in the response."""

    NONE = ""
    NO_TIME = "no_time"
    TOO_SLOW = "too_slow"
    WORK_AHEAD = "work_ahead"
    NO_ROOM = "no_room"
    SCORES_LATE = "scores_late"
    BACKEND_BUSY = "backend_busy"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    BAD_SCORES = "bad_scores"
    SCORER_FAILED = "scorer_failed"


REASON_OF: dict[type[BackendError], Reason] = {
    LateError: Reason.SCORES_LATE,
    BusyError: Reason.BACKEND_BUSY,
    UnavailableError: Reason.BACKEND_UNAVAILABLE,
    EjectedError: Reason.BACKEND_UNAVAILABLE,
    BadScoresError: Reason.BAD_SCORES,
}
"""What each failure of a backend is called in an answer."""

DEFAULT_TIERS = (Tier.FULL, Tier.TRIMMED, Tier.LITE, Tier.PRIOR)
"""What a vertical answers with, unless configured otherwise; lite only where a lite model is published."""

FORESEEN = frozenset({Reason.TOO_SLOW, Reason.WORK_AHEAD, Reason.NO_ROOM})
"""What keeps a request from a tier before the backend was asked; a lesser tier may still fit."""
