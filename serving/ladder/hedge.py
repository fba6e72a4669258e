"""Asking a second backend when the first takes longer than it should."""

import asyncio
from collections.abc import Sequence

from serving.balance.race import race
from serving.balance.tokens import HedgeTokens
from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.inference.scorer import Scores
from serving.ladder.call import Call
from serving.ladder.lane import Lane, Rung, fits
from serving.query import RankQuery


class Hedging:
    """Makes calls under the watchdog's eyes, and a second one elsewhere for what is not answered by its p99.

    The second call needs a trusted backend with the same tier that would answer in time in 99 of 100 cases, room in
    its gate, and a token. The first answer counts; the other call is cancelled, and its permit ends like that of any
    call that is given up. Without tokens nothing is ever hedged.
    """

    def __init__(self, watchdog: Watchdog, tokens: HedgeTokens | None = None, clock: Clock = MONOTONIC) -> None:
        self._watchdog = watchdog
        self._tokens = tokens
        self._clock = clock

    async def ask(self, call: Call, query: RankQuery, until: Deadline, others: Sequence[Lane]) -> Scores:
        """The scores of `call`, or of a hedge in one of the other lanes; whatever happens, every permit ends.

        Raises:
            BackendError: the call failed, and no hedge made up for it.
        """
        with call:
            tokens = self._tokens
            if tokens is None or not others:
                return await self._attempt(call, query, until)
            tokens.accrue()
            if not tokens.available or call.p99_s >= until.remaining_s():
                return await self._attempt(call, query, until)
            hedges: list[asyncio.Task[Scores]] = []

            def second() -> asyncio.Task[Scores] | None:
                hedges.extend(self._begin(hedge, query, until) for hedge in self._hedge(call, query, until, others))
                return hedges[0] if hedges else None

            first = self._begin(call, query, until)
            scores = await race(first, call.p99_s, second)
            tokens.won += bool(hedges) and (not first.done() or first.cancelled() or first.exception() is not None)
            return scores

    def _begin(self, call: Call, query: RankQuery, until: Deadline) -> "asyncio.Task[Scores]":
        def over(task: "asyncio.Task[Scores]") -> None:
            # Also for a task that was cancelled before it could begin, and so that no failure counts as forgotten.
            error = None if task.cancelled() else task.exception()
            call.end(type(error) if error else asyncio.CancelledError)

        task = asyncio.ensure_future(self._attempt(call, query, until))
        task.add_done_callback(over)
        return task

    async def _attempt(self, call: Call, query: RankQuery, until: Deadline) -> Scores:
        with call:
            # A queue of our own lets go at once.
            prompt = call.rung.queue is not None
            scores = await self._watchdog.within(call.rung.scorer.score(query, until), until, prompt=prompt)
            call.succeed()
        return scores

    def _hedge(self, call: Call, query: RankQuery, until: Deadline, others: Sequence[Lane]) -> list[Call]:
        """The second call, at most one."""
        assert self._tokens
        places = [(lane, rung) for lane in others if (rung := lane.stand_in(call.rung.tier))]
        if not places or not self._tokens.available:
            return []
        within_s = until.remaining_s()
        lane, rung = min(places, key=lambda place: _finish_s(place[0], place[1], len(query), within_s))
        estimate, ahead_s = rung.estimates.predict(len(query)), lane.ahead_of_s(rung, within_s, len(query))
        if not fits(estimate, ahead_s, within_s):
            return []
        permit = lane.gate.try_enter(estimate.mean_s, query.priority)
        if permit is None or not self._tokens.take():
            return []
        return [Call(permit, rung, len(query), estimate, ahead_s=ahead_s, clock=self._clock)]


def _finish_s(lane: Lane, rung: Rung, candidates: int, within_s: float) -> float:
    return lane.ahead_of_s(rung, within_s, candidates) + rung.estimates.predict(candidates).p99_s
