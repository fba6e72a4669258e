"""The batcher around the queue: who gets which scores, and how many calls are outstanding."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from bench.batching.frontend import BoundedScorer, EdfBatcher
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.errors import BusyError, LateError, UnavailableError
from serving.inference.scorer import Scores
from serving.query import RankQuery
from tests.bench.batching.conftest import MakeQuery


class _Model:
    """Answers when it is told to; a request's answer is its seed, in `unknown`."""

    def __init__(self) -> None:
        self.calls: list[list[RankQuery]] = []
        self.gates: list[asyncio.Future[None]] = []

    async def together(self, queries: Sequence[RankQuery]) -> list[Scores]:
        self.calls.append(list(queries))
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]
        return [Scores(np.zeros((len(query), 2), np.float32), int(query.request_id)) for query in queries]


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_no_more_calls_are_outstanding_than_slots_and_what_waits_goes_together(make_query: MakeQuery) -> None:
    model, clock = _Model(), _Clock()
    batcher = EdfBatcher(model.together, Estimates(10, 0.001, clock), slots=2, most=3, clock=clock)
    tasks = [asyncio.create_task(batcher.score(make_query(10, i), Deadline.after(1.0, clock))) for i in range(6)]
    await settle()
    assert [len(call) for call in model.calls] == [1, 1]
    model.gates[0].set_result(None)
    await settle()
    assert [len(call) for call in model.calls] == [1, 1, 3]
    for gate in model.gates[1:]:
        gate.set_result(None)
    await settle()
    model.gates[-1].set_result(None)
    assert [scores.unknown for scores in await asyncio.gather(*tasks)] == list(range(6))
    assert (batcher.calls, batcher.scored) == (4, 6)


async def test_what_cannot_finish_is_told_at_once_or_when_its_turn_comes(make_query: MakeQuery) -> None:
    model, clock = _Model(), _Clock()
    batcher = EdfBatcher(model.together, Estimates(10, 0.01, clock), slots=1, most=8, clock=clock)
    with pytest.raises(LateError, match="would not finish"):
        await batcher.score(make_query(10), Deadline.after(0.005, clock))
    first = asyncio.create_task(batcher.score(make_query(10, 1), Deadline.after(1.0, clock)))
    second = asyncio.create_task(batcher.score(make_query(10, 2), Deadline.after(0.03, clock)))
    await settle()
    clock.now_s += 0.5
    model.gates[0].set_result(None)
    with pytest.raises(LateError, match="any more"):
        await second
    assert (await first).unknown == 1
    assert len(model.calls) == 1


async def test_a_request_that_was_given_up_is_not_scored(make_query: MakeQuery) -> None:
    model, clock = _Model(), _Clock()
    batcher = EdfBatcher(model.together, Estimates(10, 0.001, clock), slots=1, most=8, clock=clock)
    tasks = [asyncio.create_task(batcher.score(make_query(10, i), Deadline.after(1.0, clock))) for i in range(3)]
    await settle()
    tasks[1].cancel()
    model.gates[0].set_result(None)
    await settle()
    assert [[query.request_id for query in call] for call in model.calls] == [["0"], ["2"]]
    model.gates[1].set_result(None)
    await tasks[2]


async def test_a_failed_call_fails_its_requests_and_frees_its_slot(make_query: MakeQuery) -> None:
    model, clock = _Model(), _Clock()
    batcher = EdfBatcher(model.together, Estimates(10, 0.001, clock), slots=1, most=8, clock=clock)
    tasks = [asyncio.create_task(batcher.score(make_query(10, i), Deadline.after(1.0, clock))) for i in range(2)]
    await settle()
    model.gates[0].set_exception(UnavailableError("gone"))
    with pytest.raises(UnavailableError):
        await tasks[0]
    await settle()
    model.gates[1].set_result(None)
    assert (await tasks[1]).unknown == 1


async def test_a_bound_refuses_what_finds_no_room_and_lets_the_next_in(make_query: MakeQuery) -> None:
    model, clock = _Model(), _Clock()
    batcher = EdfBatcher(model.together, Estimates(10, 0.001, clock), slots=1, most=8, clock=clock)
    bounded = BoundedScorer(batcher, 1)
    first = asyncio.create_task(bounded.score(make_query(10), Deadline.after(1.0, clock)))
    await settle()
    with pytest.raises(BusyError):
        await bounded.score(make_query(10), Deadline.after(1.0, clock))
    model.gates[0].set_result(None)
    await first
    second = asyncio.create_task(bounded.score(make_query(10, 7), Deadline.after(1.0, clock)))
    await settle()
    model.gates[1].set_result(None)
    assert (await second).unknown == 7
