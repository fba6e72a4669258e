"""The itinerary of one request, bytes in, response out; every stage is a line of `Ranker.rank`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from serving.admission.door import Door
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Arrival, Deadline
from serving.budget.ledger import Ledger
from serving.budget.reserve import ReplyReserve
from serving.catalog import Catalog
from serving.errors import DeadlinePassedError, OverloadedError
from serving.features.histories import Histories
from serving.ladder.ladder import Ladder
from serving.ladder.order import order
from serving.rpc.codec import budget_s, decode, encode, enter, parse, priority_of
from serving.rpc.describe import describe
from serving.rpc.pb import ranking_pb2 as pb
from serving.telemetry.hooks import Visit

if TYPE_CHECKING:  # a server without a log needs none of what logs are made of
    from serving.impressions.keeper import Keeper

DOOR_PUSHBACK_MS = 50
"""About as long as the door takes to notice that the crowd is gone."""


@dataclass(frozen=True)
class Reply:
    """An answer on its way out.

    Attributes:
        response: a `RankResponse`, its numbers packed.
        number: the request's own on its stream.
        since_s: when the answer was due to leave scoring; what comes after is the reply's own time.
        keep: logs the answer if it was handed over, else counts it; to be called when that is known, so that no reply
            waits for it.
    """

    response: Any
    number: int
    since_s: float
    keep: Callable[[bool], None]


class Ranker:
    """Takes requests from the door to their answer."""

    def __init__(
        self,
        catalog: Catalog,
        ladders: Mapping[str, Ladder],
        reserve: ReplyReserve,
        door: Door,
        clock: Clock = MONOTONIC,
        *,
        histories: Histories | None = None,
        keeper: "Keeper | None" = None,
    ) -> None:
        """Without `histories` they are all empty; without a `keeper` nothing is logged."""
        self._catalog = catalog
        self._ladders = ladders
        self._reserve = reserve
        self._door = door
        self._clock = clock
        self._histories = histories or Histories()
        self._keeper = keeper

    async def rank(self, payload: bytes, arrival: Arrival, visit: Visit | None = None) -> Reply:
        """Answer one request inside its budget; the visit learns what there is to tell of it, refused or not.

        Raises:
            RefusalError: the request gets no ranking; the class says why.
        """
        visit = visit or Visit(arrival.arrived_s)
        visit.ledger = ledger = Ledger(arrival.arrived_s, self._clock)
        ledger.close("wait")
        if arrival.hopeless:
            raise DeadlinePassedError("the caller's deadline was over before the request could be taken up")
        message = parse(payload)
        vertical = self._catalog.find(message.vertical)
        deadline = Deadline.at_door(arrival, budget_s(message, vertical), self._clock)
        visit.vertical, visit.budget_s = vertical.name, deadline.budget_s
        if not self._door.admits(priority_of(message), arrival.waited_s):
            raise OverloadedError("more requests come in than can be taken up", DOOR_PUSHBACK_MS)
        query = decode(message, vertical)
        visit.candidates, visit.priority = len(query), query.priority.name.lower()
        ledger.close("decode")
        if self._histories.wanted(vertical):
            query = await self._histories.complete(query, deadline.remaining_s())
            ledger.close("history")
        reserve_s = self._reserve.of(deadline.budget_s)
        # The reserve is what the slowest replies take; most need no more than half of it.
        until, last = deadline.less(reserve_s), deadline.less(reserve_s / 2)
        answer = await self._ladders[vertical.name].answer(query, until, last)
        ledger.close("score")
        visit.tier, visit.reason = answer.tier.name.lower(), answer.reason
        since_s = min(self._clock(), until.at_s)
        ordered = order(query.bids, answer.probability)
        ledger.close("order")
        response = encode(query, answer, ordered)
        ledger.close("encode")
        self._hold(deadline, since_s)
        enter(response, ledger, deadline.budget_s)
        keep = partial(self._keeper.keep, query, answer, ordered) if self._keeper else _keep_nothing
        return Reply(response, message.number, since_s, keep)

    def _hold(self, deadline: Deadline, since_s: float) -> None:
        """`DeadlinePassedError` past the deadline, when an answer is of no use any more."""
        if deadline.remaining_s() <= 0:
            # The reserve must know of it, or it would never grow where making replies is what takes so long.
            self._reserve.observe(self._clock() - since_s)
            raise DeadlinePassedError("the deadline was over before there was an answer")

    def describe(self, name: str) -> pb.DescribeVerticalResponse:
        """What a vertical expects and promises, the first one where no name is given.

        Raises:
            UnknownVerticalError: this server has none of that name.
        """
        vertical = self._catalog.find(name or min(self._catalog))
        return describe(vertical, self._ladders[vertical.name].tiers, self._catalog)


def _keep_nothing(_: bool) -> None:
    pass
