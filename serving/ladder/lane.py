"""One vertical's rungs on one backend, and which of several lanes is best for a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from serving.admission.gate import Gate
from serving.admission.priority import Priority
from serving.budget.estimates import Estimate, Estimates
from serving.catalog import Vertical
from serving.inference.scorer import Scorer
from serving.ladder.choice import Ask, Choice, Queue, choose
from serving.ladder.tier import Reason, Tier


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Rung:
    """A tier, the scorer that makes its answers, and how long that takes. Rungs of one model share its estimates.

    Attributes:
        trusted: whether the scorer may be asked now; one that may not is passed over.
        model: the one that scores, where it isn't the vertical's own.
        queue: before the scorer, where it has one of our own; that learns from the calls what the estimates hold.
    """

    tier: Tier
    scorer: Scorer
    estimates: Estimates
    trusted: Callable[[], bool] = _always
    model: Vertical | None = None
    queue: Queue | None = None


@dataclass(frozen=True)
class Lane:
    """What a vertical has on one backend.

    Attributes:
        backend: its name.
        rungs: best first.
        gate: the backend's, shared with the lanes of other verticals.
    """

    backend: str
    rungs: tuple[Rung, ...]
    gate: Gate

    @property
    def ahead_s(self) -> float:
        """Seconds until the backend would take up a call made past any queue of ours; 0: it has a free place."""
        gate = self.gate
        return 0.0 if gate.calls < gate.parallelism else gate.ahead_s

    def ahead_of_s(self, rung: Rung, within_s: float, candidates: int) -> float:
        """The same of a request to that rung which has so many seconds to be scored in."""
        return rung.queue.ahead_s(within_s, candidates) if rung.queue else self.ahead_s

    def below(self, rung: Rung) -> "Lane":
        """The lane without `rung` and what is better."""
        return replace(self, rungs=self.rungs[self.rungs.index(rung) + 1 :])

    def without(self, rung: Rung) -> "Lane":
        """The lane below `rung`, and without what asks the same scorer."""
        return replace(self, rungs=tuple(other for other in self.below(rung).rungs if other.scorer is not rung.scorer))

    def stand_in(self, tier: Tier) -> Rung | None:
        """The rung of that tier, if it may be asked."""
        return next((rung for rung in self.rungs if rung.tier is tier and rung.trusted()), None)


@dataclass(frozen=True, slots=True)
class Want:
    """A request, as the choice among lanes sees it; see `Ask` for the times."""

    candidates: int
    scores_s: float
    answer_s: float
    fewest: int
    priority: Priority = Priority.LIVE


@dataclass(frozen=True, slots=True)
class Offer:
    """A choice, and where it was made; without a lane and a rung it is the prior's."""

    choice: Choice
    lane: Lane | None = None
    rung: Rung | None = None

    @property
    def finish_s(self) -> float:
        """When the scores would be there in 99 of 100 cases, seconds from now."""
        return self.choice.ahead_s + self.choice.estimate.p99_s


def best_offer(lanes: Sequence[Lane], want: Want) -> Offer:
    """The best tier that any trusted lane can make in time; of equals, the one with the least expected finish.

    Raises:
        OverloadedError: there is no time even for the prior.
    """
    if want.answer_s <= 0 and lanes:
        lanes = (min(lanes, key=lambda lane: lane.ahead_s),)  # the shortest wait makes the advice
    trusted = [(lane, [rung for rung in lane.rungs if rung.trusted()]) for lane in lanes]
    offers = [_offer(lane, rungs, want) for lane, rungs in trusted if rungs]
    if offers:
        return min(offers, key=_rank)
    choice = choose((), Ask(want.candidates, want.scores_s, want.answer_s, 0.0, 0.0, want.fewest))
    untrusted = any(lane.rungs for lane in lanes)
    return Offer(replace(choice, reason=Reason.BACKEND_UNAVAILABLE) if untrusted else choice)


def fits(estimate: Estimate, ahead_s: float, remaining_s: float) -> bool:
    """Whether a call would be answered in time in 99 of 100 cases."""
    return ahead_s + estimate.p99_s <= remaining_s


def _offer(lane: Lane, rungs: Sequence[Rung], want: Want) -> Offer:
    room_s = lane.gate.room_s(want.priority)
    choice = choose(rungs, Ask(want.candidates, want.scores_s, want.answer_s, lane.ahead_s, room_s, want.fewest))
    if choice.tier is Tier.PRIOR:
        return Offer(choice)
    return Offer(choice, lane, rungs[choice.place])


def _rank(offer: Offer) -> tuple[int, int, float]:
    return offer.choice.tier, -offer.choice.candidates, offer.finish_s
