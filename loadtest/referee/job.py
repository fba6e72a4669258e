"""What the referee and the process that LoadGen runs in tell each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.driving.target import sent_late_s
from loadtest.verdict.judge import faults_of_generator
from loadtest.verdict.latencies import Latencies
from loadtest.verdict.tally import Tally

RESULT = "replies.json"
"""A `Carried`, beside LoadGen's own files."""


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


@dataclass(frozen=True)
class Carried:
    """What the process that LoadGen runs in counts itself, as LoadGen knows nothing of it.

    Attributes:
        tiers: how many answers came of which tier, or what came instead.
        cpu_share: CPU seconds of the process over wall seconds; LoadGen and the event loop share one interpreter.
        sent_late_p99_ms: from LoadGen's query to the event loop's taking it up, which is how far the loop lags.
        sent_late_share: of the queries, those that it took up late, see `sent_late_s`.
        faults: why the process may have been the bottleneck itself, by the limits of every generator of ours.
    """

    tiers: Mapping[str, int]
    cpu_share: float
    sent_late_p99_ms: float
    sent_late_share: float
    faults: Sequence[str] = ()


def carried(tiers: Mapping[str, int], lags_s: Sequence[float], bound_s: float, cpu_share: float) -> Carried:
    """The summary of a run; `lags_s` has each query's lag in seconds, at least one."""
    lags = np.asarray(lags_s, np.float64)
    late = lags >= sent_late_s(bound_s)
    lateness = Latencies(lags.tolist())
    tally = Tally(bound_s, offered=len(lags), sent_late=int(late.sum()), lateness=lateness, cpu_share=cpu_share)
    return Carried(
        tiers=dict(tiers),
        cpu_share=cpu_share,
        sent_late_p99_ms=float(np.percentile(lags, 99)) * 1e3,
        sent_late_share=float(late.mean()),
        faults=faults_of_generator(tally),
    )
