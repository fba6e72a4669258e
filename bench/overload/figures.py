"""What a run amounts to. Pure arithmetic over what the generator noted.

Late is whatever did not come in time, seen by the caller: a request counts as late unless an answer of any tier, or a
refusal to serve it (shed), was in the generator's hands by its scheduled instant plus the budget. So a call that the
deadline ended is late, a failed one is late, and the generator's own delays in sending and reading make requests late
too. How many of the late ones the generator had sent late itself is stated beside, never subtracted.

Latency runs from the scheduled instant. A call without an answer counts with the instant at which it ended, which is
about its deadline: how much later the answer would have come is not known, but it stands past the budget in every
percentile. To see it, calls must wait longer than the budget. Then no deadline tells the server that a request was sent
late, so there the budget and the latency run from the sending (`Record.since_sent`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import SAID, SCORED, Outcome, late
from loadtest.driving.target import SENT_LATE_S


@dataclass(frozen=True)
class Record:
    """All requests of one run in the order of their schedule.

    Attributes:
        at_s: float64 [N], scheduled instants, seconds from the run's start, increasing.
        stream: int64 [N], which stream of the schedule each belongs to.
        latency_s: float64 [N], from the scheduled instant to the end of the call.
        lateness_s: float64 [N], how late the generator was in sending.
        outcome: str [N], values of `Outcome`.
    """

    at_s: NDArray[np.float64]
    stream: NDArray[np.int64]
    latency_s: NDArray[np.float64]
    lateness_s: NDArray[np.float64]
    outcome: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.at_s)

    def only(self, chosen: NDArray[np.bool_]) -> "Record":
        """The requests that the mask chooses."""
        return Record(**{name: column[chosen] for name, column in vars(self).items()})

    def between(self, start_s: float, stop_s: float = float("inf")) -> "Record":
        """The requests scheduled from `start_s` on and before `stop_s`."""
        return self.only((self.at_s >= start_s) & (self.at_s < stop_s))

    def since_sent(self) -> "Record":
        """The same with latencies that run from the sending."""
        return replace(self, latency_s=self.latency_s - self.lateness_s)

    def late(self, budget_s: float) -> NDArray[np.bool_]:
        """bool [N]: no answer and no shed refusal within the budget."""
        return late(self.latency_s, self.outcome, budget_s)

    def full_in_time(self, budget_s: float) -> NDArray[np.bool_]:
        """bool [N]: answered by the full tier within the budget."""
        full: NDArray[np.bool_] = self.outcome == Outcome.FULL
        return full & ~self.late(budget_s)


@dataclass(frozen=True)
class Figures:
    """One run in numbers; every share is of the offered requests.

    Attributes:
        offered: requests sent.
        offered_rps: per second of the schedule.
        late_share, late: see the module.
        late_sent_late: of the late ones, those that the generator had sent `SENT_LATE_S` late or more.
        p50_ms, p99_ms: latency of all requests, late and unanswered ones included.
        answers_p99_ms: of those that were not refused (shed), for refusals are quick; None: all were.
        tiers: tier, or `shed`, to its share, in time or not.
        unanswered_share: calls that the deadline ended.
        failed_share: calls that ended with any other error, or with an answer of no known tier.
        scored_goodput_rps: in time and scored by a model (full, trimmed, lite), per second of the schedule.
        full_goodput_rps: in time and full.
        overshoot_p99_ms: how far past the deadline the late ones ended, 99th percentile over the late ones; 0 for none.
        sent_late_p99_ms: the generator's own lateness in sending.
    """

    offered: int
    offered_rps: float
    late: int
    late_share: float
    late_sent_late: int
    p50_ms: float
    p99_ms: float
    answers_p99_ms: float | None
    tiers: dict[str, float]
    unanswered_share: float
    failed_share: float
    scored_goodput_rps: float
    full_goodput_rps: float
    overshoot_p99_ms: float
    sent_late_p99_ms: float


def figures(record: Record, seconds: float, budget_s: float) -> Figures:
    """Sum up a run of `seconds`; `ValueError` if it holds no request."""
    if not len(record):
        raise ValueError("a run without requests has no figures")
    missed = record.late(budget_s)
    past_ms = np.maximum(record.latency_s[missed] - budget_s, 0.0) * 1e3
    latency_ms = record.latency_s * 1e3
    served_ms = latency_ms[record.outcome != Outcome.SHED]
    return Figures(
        offered=len(record),
        offered_rps=len(record) / seconds,
        late=int(missed.sum()),
        late_share=float(missed.mean()),
        late_sent_late=int((missed & (record.lateness_s >= SENT_LATE_S)).sum()),
        p50_ms=float(np.percentile(latency_ms, 50)),
        p99_ms=float(np.percentile(latency_ms, 99)),
        answers_p99_ms=float(np.percentile(served_ms, 99)) if len(served_ms) else None,
        tiers={str(one): float(np.mean(record.outcome == one)) for one in SAID},
        unanswered_share=float(np.mean(record.outcome == Outcome.UNANSWERED)),
        failed_share=float(np.mean(np.isin(record.outcome, (Outcome.FAILED, Outcome.WRONG)))),
        scored_goodput_rps=float(np.sum(np.isin(record.outcome, SCORED) & ~missed) / seconds),
        full_goodput_rps=float(np.sum(record.full_in_time(budget_s)) / seconds),
        overshoot_p99_ms=float(np.percentile(past_ms, 99)) if len(past_ms) else 0.0,
        sent_late_p99_ms=float(np.percentile(record.lateness_s, 99)) * 1e3,
    )


def back_s(record: Record, budget_s: float, since_s: float, window_s: float = 0.5, share: float = 0.95) -> float | None:
    """How long after `since_s` the full tier was back; None if it never was.

    It is back at the first request from which on a whole window holds at least `share` full answers in time.
    """
    after = record.between(since_s)
    if not len(after):
        return None
    good = np.concatenate([[0], np.cumsum(after.full_in_time(budget_s))])
    ends = np.searchsorted(after.at_s, after.at_s + window_s)
    held = (good[ends] - good[:-1]) >= share * (ends - np.arange(len(after)))
    held &= after.at_s + window_s <= after.at_s[-1]
    return float(after.at_s[np.argmax(held)] - since_s) if held.any() else None


def joined(records: Sequence[Record]) -> Record:
    """Several runs as one; their instants are not made to follow one another, so only for what ignores them."""
    first, *others = records
    for other in others:
        pairs = {name: np.concatenate([value, getattr(other, name)]) for name, value in vars(first).items()}
        first = replace(first, **pairs)
    return first
