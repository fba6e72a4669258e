"""The batcher around the queue: who gets which scores, how many calls are outstanding, and what ends early."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.admission.priority import Priority
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.catalog import Batching, Catalog
from serving.errors import BackendError, BadScoresError, BusyError, EjectedError, LateError, UnavailableError
from serving.inference.batcher import EdfBatcher
from serving.inference.lite import LiteBatchScorer, lite_scorer
from serving.inference.scorer import Scores
from serving.query import RankQuery
from serving.rpc.codec import decode, parse
from tests.serving.conftest import Clock

MakeQuery = Callable[..., RankQuery]
Result = Scores | BackendError
ROWS = 10
FEW = 2
"""So few that a call costs more than they do."""


class Model:
    """Answers when it is told to; a request's answer is its own number, in `unknown`."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.cancelled = 0
        self.bad: set[str] = set()

    async def score(self, *_: Any) -> Scores:
        raise AssertionError("only batches are asked for")

    async def score_together(self, queries: Sequence[RankQuery], _: Deadline) -> list[Result]:
        self.calls.append([query.request_id for query in queries])
        self.gates.append(asyncio.get_running_loop().create_future())
        try:
            await self.gates[-1]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.bad & set(self.calls[-1]):
            raise BadScoresError("one of them")
        return [Scores(np.zeros((len(query), 2), np.float32), int(query.request_id)) for query in queries]

    def answer(self, *places: int) -> None:
        for place in places or range(len(self.gates)):
            if not self.gates[place].done():
                self.gates[place].set_result(None)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make_query(catalog: Catalog, make_message: Callable[..., Any]) -> MakeQuery:
    """`make_query(number, candidates=10, priority=LIVE)`."""

    def make(number: int, candidates: int = ROWS, priority: Priority = Priority.LIVE) -> RankQuery:
        query = decode(parse(make_message(candidates).SerializeToString()), catalog["feed_click"])
        return replace(query, request_id=str(number), priority=priority)

    return make


@pytest.fixture
def make_batcher(model: Model, clock: Clock) -> Callable[..., EdfBatcher]:
    """`make_batcher(calls=1, most=8, service_s=0.001)`: ten candidates take the model so long, half of it fixed;
    at most fifty go together."""

    def make(calls: int = 1, most: int = 8, service_s: float = 0.001) -> EdfBatcher:
        return EdfBatcher(model, Estimates(ROWS, service_s, clock), Batching(calls, most), 50, clock)

    return make


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def test_no_more_calls_are_outstanding_than_may_and_what_waits_goes_together(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher(calls=2, most=3)
    assert batcher.ahead_s() == 0
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(6)]
    await settle()
    assert model.calls == [["0"], ["1"]]
    assert (batcher.waiting, batcher.outstanding) == (4, 2)
    assert batcher.ahead_s() > 0
    model.answer(0)
    await settle()
    assert model.calls[2:] == [["2", "3", "4"]]
    model.answer()
    await settle()
    model.answer()
    assert [scores.unknown for scores in await asyncio.gather(*tasks)] == list(range(6))
    await settle()
    assert (batcher.calls, batcher.scored, batcher.waiting, batcher.outstanding) == (4, 6, 0, 0)
    assert batcher.state()["requests_per_call"] == 1.5


async def test_the_wait_is_told_by_deadline(make_batcher: Any, make_query: MakeQuery, clock: Clock) -> None:
    batcher = make_batcher()
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(3)]
    await settle()
    # The call that runs takes 1 ms; of the two that wait only their 20 candidates count, they would share its call.
    assert batcher.ahead_s(0.5) == pytest.approx(0.001)
    assert batcher.ahead_s(2.0) == pytest.approx(0.001 + 2 * 0.0005)
    clock.now_s += 0.1  # it lasts much longer than expected
    assert 0 < batcher.ahead_s(0.5) < 0.001
    for task in tasks:
        task.cancel()
    await settle()


async def test_what_cannot_finish_is_told_at_once_or_when_that_is_known(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher(service_s=0.01)
    with pytest.raises(LateError, match="no time left"):
        await batcher.score(make_query(0), Deadline.after(0.0, clock))
    with pytest.raises(BusyError, match="would not finish"):
        await batcher.score(make_query(0), Deadline.after(0.005, clock))
    first = asyncio.create_task(batcher.score(make_query(1), Deadline.after(1.0, clock)))
    second = asyncio.create_task(batcher.score(make_query(2), Deadline.after(0.03, clock)))
    await settle()
    clock.now_s += 0.5
    model.answer()
    with pytest.raises(BusyError, match="any more"):
        await second
    assert (await first).unknown == 1
    assert model.calls == [["1"]]
    assert batcher.dropped == 2


async def test_a_request_leaves_a_queue_that_does_not_move(model: Model, make_query: MakeQuery) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01), Batching(1, 8), 500)
    first = asyncio.create_task(batcher.score(make_query(1), Deadline.after(5.0)))
    await settle()
    until = Deadline.after(0.06)
    with pytest.raises(BusyError, match="any more"):
        await batcher.score(make_query(2), until)
    assert until.remaining_s() > -0.05
    model.answer()
    await first


async def test_a_waiting_request_that_is_cancelled_frees_its_place(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    assert batcher.waiting == 1
    model.answer()
    await settle()
    assert model.calls == [["0"], ["2"]]
    model.answer()
    await tasks[2]


async def test_one_that_is_cancelled_in_a_batch_leaves_the_others_alone(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(3)]
    await settle()
    model.answer()
    await settle()
    assert model.calls[1] == ["1", "2"]
    tasks[1].cancel()
    await settle()
    model.answer()
    assert (await tasks[2]).unknown == 2
    assert model.cancelled == 0


async def test_a_call_that_nobody_waits_for_keeps_its_place_until_its_p99_and_is_a_miss(
    model: Model, make_query: MakeQuery, eventually: Any
) -> None:
    estimates = Estimates(ROWS, 0.02)
    batcher = EdfBatcher(model, estimates, Batching(1, 8), 500)
    task = asyncio.create_task(batcher.score(make_query(0), Deadline.after(5.0)))
    await settle()
    task.cancel()
    await settle()
    assert (batcher.outstanding, model.cancelled) == (1, 0)
    await eventually(lambda: model.cancelled == 1 and batcher.outstanding == 0)
    assert estimates.calls == 1
    assert estimates.coverage == 0


async def test_the_estimates_learn_calls_and_not_requests(model: Model, make_query: MakeQuery, clock: Clock) -> None:
    estimates = Estimates(ROWS, 0.001, clock)
    batcher = EdfBatcher(model, estimates, Batching(1, 8), 500, clock)
    for turn in range(30):
        tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(4)]
        await settle()
        clock.now_s += 0.002  # ten candidates
        model.answer()
        await settle()
        clock.now_s += 0.004  # thirty
        model.answer()
        await asyncio.gather(*tasks)
        assert estimates.calls == 2 * (turn + 1)
    assert estimates.predict(10).mean_s == pytest.approx(0.002, rel=0.1)
    assert estimates.predict(30).mean_s == pytest.approx(0.004, rel=0.1)


async def test_a_call_that_fails_fails_its_requests_and_frees_its_place(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(2)]
    await settle()
    model.gates[0].set_exception(UnavailableError("gone"))
    with pytest.raises(UnavailableError):
        await tasks[0]
    await settle()
    model.answer()
    assert (await tasks[1]).unknown == 1


async def test_a_fault_of_ours_reaches_the_requests_too(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    task = asyncio.create_task(batcher.score(make_query(0), Deadline.after(1.0, clock)))
    await settle()
    model.gates[0].set_exception(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await task
    assert batcher.outstanding == 0


async def test_a_bad_request_in_a_batch_harms_nobody_else(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    model.bad = {"2"}
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(4)]
    for _ in range(5):
        await settle()
        model.answer()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert model.calls == [["0"], ["1", "2", "3"], ["1"], ["2"], ["3"]]
    assert isinstance(results[2], BadScoresError)
    assert [one.unknown for one in results if isinstance(one, Scores)] == [0, 1, 3]


async def test_an_ejected_backend_holds_no_queue(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher()
    tasks = [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in range(3)]
    await settle()
    batcher.eject()
    for task in tasks[1:]:
        with pytest.raises(EjectedError):
            await task
    assert batcher.waiting == 0
    model.answer()
    assert (await tasks[0]).unknown == 0


async def test_shadow_requests_go_behind_all_who_wait(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher(calls=2)
    shadows = [make_query(i, priority=Priority.SHADOW) for i in range(3)]
    tasks = [asyncio.create_task(batcher.score(query, Deadline.after(0.5, clock))) for query in shadows]
    await settle()
    assert model.calls == [["0"], ["1"]]
    tasks += [asyncio.create_task(batcher.score(make_query(i), Deadline.after(1.0, clock))) for i in (10, 11)]
    await settle()
    clock.now_s += 0.001
    model.answer(0)
    await settle()
    assert model.calls[2:] == [["10", "11"]]  # later in coming and in deadline, and not with the shadow request
    model.answer()
    await settle()
    assert model.calls[3:] == [["2"]]
    model.answer()
    assert {scores.unknown for scores in await asyncio.gather(*tasks)} == {0, 1, 2, 10, 11}


async def test_short_requests_go_together_after_the_short_call_that_runs(
    model: Model, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01, clock), Batching(2, 8), 20 * ROWS, clock)
    tasks = [asyncio.create_task(batcher.score(make_query(i, FEW), Deadline.after(1.0, clock))) for i in range(4)]
    await settle()
    assert model.calls == [["0"]]
    estimates = Estimates(ROWS, 0.01, clock)
    # The rest of the call that runs, and what grows with the three that wait.
    expected_s = estimates.mean_s(FEW) + estimates.mean_s(3 * FEW) - estimates.mean_s(0)
    assert batcher.ahead_s(1.0, FEW) == pytest.approx(expected_s)
    # One whose candidates cost more than a call, or one in a hurry, would take the other call.
    assert batcher.ahead_s(1.0, ROWS) == 0
    assert batcher.ahead_s(0.011, FEW) == 0
    model.answer()
    await settle()
    assert model.calls == [["0"], ["1", "2", "3"]]
    model.answer()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("waiting", ["long together", "in a hurry", "the call is overdue"])
async def test_short_requests_take_the_other_call_where_waiting_gains_nothing(
    model: Model, make_query: MakeQuery, clock: Clock, waiting: str
) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01, clock), Batching(2, 8), 20 * ROWS, clock)
    counts = {0: 1, 1: 8 if waiting == "long together" else 1}
    within_s = 0.012 if waiting == "in a hurry" else 1.0
    tasks: list[asyncio.Task[Any]] = []
    for call, count in counts.items():
        for _ in range(count):
            query = make_query(len(tasks), FEW)
            tasks.append(asyncio.create_task(batcher.score(query, Deadline.after(within_s if call else 1.0, clock))))
        await settle()
    if waiting == "the call is overdue":
        assert len(model.calls) == 1
        clock.now_s += 0.0061
        async with asyncio.timeout(1.0):
            while len(model.calls) == 1:  # noqa: ASYNC110 a timer of the real loop
                await asyncio.sleep(0.001)
    assert len(model.calls) == 2
    while not all(task.done() for task in tasks):
        model.answer()
        await settle()


async def test_one_short_call_goes_beside_long_ones_where_there_is_room(
    model: Model, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01, clock), Batching(1, 8), 6 * ROWS, clock, extra=True)
    until = Deadline.after(1.0, clock)
    tasks = [asyncio.create_task(batcher.score(make_query(0, 6 * ROWS), until))]
    await settle()
    # Long ones wait; a short one is predicted to go past them, and does, however little time it has.
    tasks.append(asyncio.create_task(batcher.score(make_query(3, 6 * ROWS), until)))
    await settle()
    assert batcher.ahead_s(1.0, 6 * ROWS) > batcher.ahead_s(1.0, ROWS) == 0
    tasks += [asyncio.create_task(batcher.score(make_query(number), until)) for number in (1, 2)]
    await settle()
    # The first takes the ordinary call, the second is short beside it, and a third place there is not.
    assert model.calls == [["0"], ["1"]]
    assert batcher.ahead_s(1.0, ROWS) > 0
    clock.now_s += 0.01
    model.answer(1)
    await settle()
    assert model.calls[2:] == [["2"]]
    while not all(task.done() for task in tasks):
        model.answer()
        await settle()
    assert [task.result().unknown for task in tasks] == [0, 3, 1, 2]


@pytest.mark.parametrize("ahead", [ROWS, 6 * ROWS], ids=["beside a short one", "not short itself, or shadow"])
async def test_nothing_else_goes_beyond_the_ordinary_calls(
    model: Model, make_query: MakeQuery, clock: Clock, ahead: int
) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01, clock), Batching(1, 8), 6 * ROWS, clock, extra=True)
    until = Deadline.after(1.0, clock)
    others = [make_query(1)] if ahead == ROWS else [make_query(1, 5 * ROWS), make_query(2, priority=Priority.SHADOW)]
    tasks = [asyncio.create_task(batcher.score(query, until)) for query in (make_query(0, ahead), *others)]
    await settle()
    assert model.calls == [["0"]]
    while len(model.calls) <= len(others):
        model.answer()
        await settle()
    model.answer()
    assert len(await asyncio.gather(*tasks)) == 1 + len(others)


async def test_the_only_call_takes_shadow_requests_when_nothing_else_waits(
    model: Model, make_batcher: Any, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = make_batcher(calls=1)
    task = asyncio.create_task(batcher.score(make_query(1, priority=Priority.SHADOW), Deadline.after(1.0, clock)))
    await settle()
    model.answer()
    assert (await task).unknown == 1


async def test_a_lite_model_is_asked_in_batches_by_its_own_name(make_query: MakeQuery, catalog: Catalog) -> None:
    lite = replace(catalog["feed_click"], name="feed_click_lite")
    asked: list[str] = []

    class Noting(Model):
        async def score_together(self, queries: Sequence[RankQuery], _: Deadline) -> list[Result]:
            asked.extend(query.vertical.name for query in queries)
            return []

    scorer = lite_scorer(Noting(), lite)
    assert isinstance(scorer, LiteBatchScorer)
    await scorer.score_together([make_query(0), make_query(1)], Deadline.after(1.0))
    assert asked == ["feed_click_lite"] * 2


async def test_where_requests_come_thick_a_call_waits_for_company(
    model: Model, make_query: MakeQuery, clock: Clock
) -> None:
    batcher = EdfBatcher(model, Estimates(ROWS, 0.01, clock), Batching(2, 8), 40 * ROWS, clock, linger_s=0.004)
    tasks: list[asyncio.Task[Any]] = []

    async def ask(count: int) -> None:
        for _ in range(count):
            query = make_query(len(tasks), 1)
            tasks.append(asyncio.create_task(batcher.score(query, Deadline.after(1.0, clock))))
        await settle()

    async def answer(after_s: float) -> None:
        clock.now_s += after_s
        model.answer()
        await settle()

    await ask(16)
    while batcher.outstanding or batcher.waiting:
        await answer(0.0055)
        await asyncio.sleep(0.001)  # what is held waits for a timer of the real loop, which this clock must not outrun
    await ask(1)  # the last call began long ago
    assert (batcher.waiting, batcher.outstanding) == (0, 1)
    await answer(0.0005)
    await ask(2)
    assert (batcher.waiting, batcher.outstanding) == (2, 0)
    assert 0 < batcher.ahead_s(1.0, 1) <= 0.006
    clock.now_s += 0.0041
    async with asyncio.timeout(1.0):
        while batcher.waiting:  # noqa: ASYNC110 a timer of the real loop
            await asyncio.sleep(0.001)
    await settle()
    assert len(model.calls[-1]) == 2
    model.answer()
    await asyncio.gather(*tasks)
