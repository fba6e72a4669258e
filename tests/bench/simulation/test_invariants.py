"""Broken parts, which the same worlds catch: every invariant can fail, and is named with its seed when it does."""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from bench.simulation import link, watch
from bench.simulation.link import Link
from bench.simulation.runs import run_seeds
from bench.simulation.watch import Watch
from bench.simulation.world import World
from serving.admission.gate import Gate
from serving.admission.permit import Outcome, Permit
from serving.admission.shares import Shares
from serving.balance.tokens import HedgeTokens
from serving.budget.clock import Clock
from serving.budget.deadline import Arrival, Deadline
from serving.budget.estimates import Estimates
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.errors import BackendError, LateError
from serving.inference.batcher import EdfBatcher
from serving.inference.breaker import Breaker, Cause
from serving.inference.edf import EdfQueue
from serving.inference.scorer import Scores
from serving.ladder import ladder
from serving.ladder.call import Call
from serving.ladder.ladder import Answer, Ladder
from serving.ladder.prior import Prior
from serving.ladder.trimmed import Trimmed, trim, widen
from serving.query import RankQuery

Sabotage = tuple[Any, str, Any]
_watchdog_ended, _end, _count, _close = Watchdog._ended, Permit._end, Gate.end, Breaker._close
_at_door, _lookup, _trim, _widen, _scores = Deadline.at_door, Prior.lookup, trim, widen, link._scores
_over, _answer, _together, _run = World._over, Ladder.answer, Link.score_together, EdfBatcher._run


@dataclass(frozen=True)
class Broken:
    """What is replaced, which invariant must say so, and within how many seeds; most do within ten."""

    what: Sabotage
    invariant: str
    seeds: int = 400


def _nothing(*_: Any) -> None:
    pass


async def _patient(_: Watchdog, work: Coroutine[Any, Any, Any], until: Deadline, *, prompt: bool = False) -> Any:
    del until, prompt
    return await work


async def _lets_work_run(
    self: Watchdog, work: Coroutine[Any, Any, Any], until: Deadline, *, prompt: bool = False
) -> Any:
    del prompt
    task = asyncio.create_task(work)
    self._running.add(task)
    task.add_done_callback(self._ended)
    await asyncio.wait((task,), timeout=max(until.remaining_s(), 0.0))
    if not task.done():
        raise LateError("too late")
    return task.result()


async def _loses_some(self: Ladder, query: RankQuery, until: Deadline, last: Deadline) -> Answer:
    if int(query.request_id) % 10 == 3:
        await asyncio.Event().wait()
    return await _answer(self, query, until, last)


async def _sleeps_at_last(self: Ladder, query: RankQuery, until: Deadline, last: Deadline) -> Answer:
    answer = await _answer(self, query, until, last)
    if int(query.request_id) % 10 == 3:
        await asyncio.sleep(until.remaining_s() + 1.2 * watch.EPSILON_S)
    return answer


def _answers_twice(self: World, place: int, task: "asyncio.Task[str]") -> None:
    ask = self._asking[place][task]
    _over(self, place, task)
    self._watch.answer(ask, "prior")


def _ends_twice(self: Permit, outcome: Outcome, latency_s: float | None = None) -> None:
    was_open = self.open
    _end(self, outcome, latency_s)
    if was_open:
        self._open = True
        _end(self, outcome, latency_s)


def _counts_ends_as_refusals(self: Gate, grant: Any, outcome: Outcome, sample: Any) -> None:
    del outcome
    _count(self, grant, Outcome.REFUSED, sample)


def _closes_only_at_first(self: Breaker) -> None:
    if self.cause is Cause.NEW:
        _close(self)


async def _mixes(self: Link, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
    return (await _together(self, queries, until))[::-1]


async def _counts_twice(self: EdfBatcher, call: Any) -> None:
    await _run(self, call)
    self.calls += 1


def _unlearns(self: Estimates, candidates: int, service_s: float) -> None:
    self.seed(candidates, service_s + 10.0)


def _trips(self: Watchdog, task: "asyncio.Task[Any]") -> None:
    _watchdog_ended(self, task)
    raise ArithmeticError("broken on purpose")


def _forgets_an_answer(self: Watch, ask: Any, end: str) -> None:
    ask.end = end
    self.ends[end] += 1


def _doubled(_: type[Deadline], arrival: Arrival, budget_s: float, clock: Clock) -> Deadline:
    return _at_door(arrival, 2 * budget_s, clock)


def _looks_up_the_wrong_ads(self: Prior, ads: Any) -> Any:
    return _lookup(self, np.roll(ads, 1))


def _keeps_the_first(query: RankQuery, prior: Any, keep: int) -> Trimmed:
    return _trim(replace(query, bids=np.ones(len(query))), np.zeros_like(prior), keep)


def _widens_upside_down(trimmed: Trimmed, scored: Any, prior: Any, bids: Any) -> Any:
    return _widen(trimmed, scored, prior[::-1], bids)


def _scores_in_reverse(query: RankQuery) -> Scores:
    return Scores(_scores(query).probability[::-1])


BROKEN = {
    "a watchdog that sleeps": Broken((Watchdog, "within", _patient), "unanswered"),
    "a request that is lost": Broken((Ladder, "answer", _loses_some), "unanswered"),
    "an answer after its time": Broken((Ladder, "answer", _sleeps_at_last), "late"),
    "a deadline that is doubled": Broken((Deadline, "at_door", classmethod(_doubled)), "unanswered"),
    "no reserve for the reply": Broken((ReplyReserve, "of", lambda *_: 0.0), "unanswered"),
    "an answer given twice": Broken((World, "_over", _answers_twice), "twice"),
    "answers of a batch mixed up": Broken((Link, "score_together", _mixes), "scores"),
    "a trimmed answer without its scores": Broken((ladder, "widen", lambda _, __, prior, ___: prior), "scores"),
    "scores of other ads": Broken((link, "_scores", _scores_in_reverse), "scores"),
    "the prior of other ads": Broken((Prior, "lookup", _looks_up_the_wrong_ads), "scores"),
    "a trimmed answer for whoever stands first": Broken((ladder, "trim", _keeps_the_first), "scores"),
    "a trimmed answer whose rest is out of order": Broken((ladder, "widen", _widens_upside_down), "scores"),
    "shares that guarantee nothing": Broken((Shares, "guaranteed_ns", lambda *_: 0), "shares"),
    "loans while a higher priority waits": Broken((Shares, "_waiting", lambda *_: False), "shares"),
    "a gate that lets everybody in": Broken((Shares, "admits", lambda *_: True), "limit"),
    "capacity never given back": Broken((Shares, "give_back", _nothing), "permits"),
    "permits that never end": Broken((Permit, "_end", _nothing), "permits"),
    "permits that end twice": Broken((Permit, "_end", _ends_twice), "permits"),
    "hedges that keep their permits": Broken((Call, "end", _nothing), "permits"),
    "permits of what is given up kept": Broken((Call, "_let_go", _nothing), "permits"),
    "work that goes on": Broken((Watchdog, "within", _lets_work_run), "work"),
    "ends that are miscounted": Broken((Gate, "end", _counts_ends_as_refusals), "counters"),
    "calls that are miscounted": Broken((EdfBatcher, "_run", _counts_twice), "counters"),
    "requests that are miscounted": Broken((Watch, "answer", _forgets_an_answer), "counters"),
    "hedges without tokens": Broken((HedgeTokens, "available", property(lambda _: True)), "hedges"),
    "more calls than may be": Broken((EdfBatcher, "_ordinary", property(lambda _: 0)), "queue"),
    "a queue that outlives the trust": Broken((EdfBatcher, "eject", _nothing), "queue"),
    "a queue that keeps the hopeless": Broken((EdfBatcher, "_sweep", _nothing), "queue"),
    "calls that keep their place for ever": Broken((EdfBatcher, "_ended", _nothing), "queue"),
    "batches of whoever waits": Broken((EdfQueue, "_joins", lambda *_: True), "batch"),
    "a breaker that never closes again": Broken((Breaker, "_close", _closes_only_at_first), "trust"),
    "canaries that teach nonsense": Broken((Estimates, "lower", _unlearns), "recovery"),
    "a callback that fails": Broken((Watchdog, "_ended", _trips), "callback"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_caught_and_named_with_its_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = BROKEN[name]
    monkeypatch.setattr(*broken.what)
    report = run_seeds(0, broken.seeds, quiet=True, until_wrong=True)
    assert report["violations"] == 1
    seed = report["seeds"] - 1
    assert re.match(rf"seed {seed} at \d+\.\d{{6}} s: {broken.invariant}: ", report["examples"][0])


def test_every_invariant_is_broken_by_something() -> None:
    named = re.findall(r"^- (`.*?):", watch.__doc__ or "", re.MULTILINE)
    words = {word for each in named for word in re.findall(r"`(\w+)`", each)}
    assert words == {broken.invariant for broken in BROKEN.values()}
