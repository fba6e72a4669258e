"""Which answer to try for: decided once, at once, from predictions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.budget.estimates import Estimate
from serving.errors import OverloadedError
from serving.ladder.tier import Reason, Tier

FEWEST = 16
"""With fewer candidates scored by the model than this, the prior's order for all of them is the better answer."""


class Predictor(Protocol):
    """What is asked of `Estimates`."""

    def predict(self, candidates: int) -> Estimate:
        """The service time of a call with that many candidates."""
        ...

    def most(self, p99_s: float, mean_s: float) -> int:
        """The most candidates whose predicted p99 and mean are within these times."""
        ...


class Queue(Protocol):
    """A queue of our own before a backend."""

    def ahead_s(self, within_s: float = ..., candidates: int = ...) -> float:
        """Seconds until a request of that size would be taken up that has so many to be scored in; 0: at once."""
        ...


class Option(Protocol):
    """A rung as the choice sees it."""

    @property
    def tier(self) -> Tier:
        """Which one."""
        ...

    @property
    def estimates(self) -> Predictor:
        """Of its model."""
        ...

    @property
    def queue(self) -> Queue | None:
        """The model's; None: its calls wait at the backend."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A request and the moment.

    Attributes:
        candidates: how many, >= 1.
        scores_s: seconds until scores must be there: the deadline less the reply reserve.
        answer_s: seconds until even the prior's answer would come too late; more than `scores_s`.
        ahead_s: seconds until the backend takes the request up, after what it was given before; 0: at once. An option
            with a queue of its own knows better.
        room_s: seconds of backend work that the gate has room for at its priority; it keeps the trimmed tier small, the
            others ask.
        fewest: see `FEWEST`.
    """

    candidates: int
    scores_s: float
    answer_s: float
    ahead_s: float
    room_s: float
    fewest: int = FEWEST


@dataclass(frozen=True, slots=True)
class Choice:
    """What to try for.

    Attributes:
        tier: the rung; `PRIOR` needs no backend.
        reason: why no better one.
        place: the rung's place among the options; their number for the prior.
        candidates: how many of them the model scores.
        estimate: what that will take; zero for the prior.
        ahead_s: the wait before it.
    """

    tier: Tier
    reason: Reason
    place: int
    candidates: int
    estimate: Estimate
    ahead_s: float = 0.0


def choose(options: Sequence[Option], ask: Ask) -> Choice:
    """The best option whose predicted p99 finish, wait for the work ahead included, is in time; else the prior.

    Behind a queue of our own the p90 counts, except for how many candidates a trimmed answer has: who can't be in time
    any more is thrown out of the queue before anything is spent on it, and where one call in a hundred takes several
    times the others, as on a machine that others disturb, the p99 would leave places empty that most of those turned
    away could have used.

    A backend with a free place is tried if the *mean* is in time: the watchdog has the prior's answer ready, the try
    holds nobody up, and without it an estimate that a stall has spoilt would keep everybody away for good.

    Raises:
        OverloadedError: there is no time even for the prior; the pushback is the time that the work ahead needs.
    """
    if ask.answer_s <= 0:
        wait_ms = max(1, round((ask.ahead_s - ask.answer_s) * 1e3))
        raise OverloadedError("the budget was spent before the request could be taken up", wait_ms)
    reason, queue, ahead_s = Reason.NONE, None, ask.ahead_s
    for place, option in enumerate(options):
        if option.queue is not queue:  # tiers of one model share theirs
            queue = option.queue
            ahead_s = queue.ahead_s(ask.scores_s, ask.candidates) if queue else ask.ahead_s
        count = _count(option, ask, ahead_s)
        if count:
            return Choice(option.tier, reason, place, count, option.estimates.predict(count), ahead_s)
        reason = reason or _why_not(option, ask, ahead_s)
    return Choice(Tier.PRIOR, reason, len(options), 0, Estimate(0.0, 0.0, 0.0))


def _count(option: Option, ask: Ask, ahead_s: float) -> int:
    """How many candidates the option can score in time; 0: not enough for its tier."""
    if ask.scores_s <= 0:
        return 0
    if option.tier is not Tier.TRIMMED:
        return ask.candidates if _fits(option, ask, ahead_s, ask.candidates) else 0
    count = min(option.estimates.most(ask.scores_s - ahead_s, ask.room_s), ask.candidates)
    least = min(ask.fewest, ask.candidates)
    if count >= least:
        return count
    return least if _fits(option, ask, ahead_s, least) else 0


def _fits(option: Option, ask: Ask, ahead_s: float, candidates: int) -> bool:
    return ahead_s + _service_s(option, ahead_s, candidates) <= ask.scores_s


def _service_s(option: Option, ahead_s: float, candidates: int) -> float:
    """What counts as the time of its call behind that wait; see `choose`."""
    estimate = option.estimates.predict(candidates)
    if ahead_s <= 0:
        return estimate.mean_s
    return estimate.p90_s if option.queue else estimate.p99_s


def _why_not(option: Option, ask: Ask, ahead_s: float) -> Reason:
    if ask.scores_s <= 0:
        return Reason.NO_TIME
    alone = ahead_s <= 0 or _service_s(option, ahead_s, ask.candidates) > ask.scores_s
    return Reason.TOO_SLOW if alone else Reason.WORK_AHEAD
