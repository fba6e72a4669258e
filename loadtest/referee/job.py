"""What the referee tells the process that LoadGen runs in."""

from dataclasses import dataclass

RESULT = "replies.json"
"""How many answers came of which tier, beside LoadGen's own files."""


@dataclass(frozen=True)
class Job:
    """What to run, as `loadtest.referee.referee.measure` writes it.

    Attributes:
        rate_rps: LoadGen's target for its Poisson arrivals.
        bound_s: on the 99th percentile.
        seconds: the least length.
        call: how the server is asked, one of `loadtest.driving.calls.TARGETS`.
        out: folder for LoadGen's files.
    """

    address: str
    vertical: str
    candidates: str
    rate_rps: float
    bound_s: float
    seconds: float
    seed: int
    connections: int
    call: str
    out: str
