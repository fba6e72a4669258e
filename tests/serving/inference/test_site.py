"""Which scorers get a queue of ours, and what the trust in a backend has to do with it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.admission.gate import Gate
from serving.budget.deadline import Deadline
from serving.catalog import Batching, Vertical
from serving.errors import EjectedError, UnavailableError
from serving.inference.breaker import Cause
from serving.inference.scorer import Scorer, Scores
from serving.inference.site import Site
from serving.query import RankQuery
from serving.rpc.codec import decode, parse

NAME = "feed_click"
MakeSite = Callable[..., Site]


class Together:
    """Answers canaries; batches when it is told to."""

    def __init__(self, single: Scorer) -> None:
        self.single = single
        self.gate: asyncio.Future[None] | None = None
        self.batches = self.canaries = 0

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        self.canaries += 1
        return await self.single.score(query, until)

    async def score_together(self, queries: Sequence[RankQuery], _: Deadline) -> list[Scores]:
        self.batches += 1
        self.gate = asyncio.get_running_loop().create_future()
        await self.gate
        return [Scores(np.zeros((len(query), len(query.vertical.tasks)), np.float32)) for query in queries]


@pytest.fixture
def vertical(catalog: Any) -> Vertical:
    own: Vertical = catalog[NAME]
    return replace(own, batching=Batching(3, 8))


@pytest.fixture
def query(vertical: Vertical, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(3).SerializeToString()), vertical)


@pytest.fixture
def make_site(make_gate: Callable[..., Gate]) -> MakeSite:
    def make(vertical: Vertical, scorer: Scorer, share: float = 1.0) -> Site:
        return Site("here", {NAME: vertical}, {NAME: scorer}, make_gate(), share=share)

    return make


@pytest.mark.parametrize(("share", "calls"), [(1.0, 4), (0.5, 2), (1 / 3, 1), (0.25, 1)])
def test_workers_share_the_calls_and_none_goes_without(
    make_site: MakeSite, vertical: Vertical, scripted: Any, share: float, calls: int
) -> None:
    site = make_site(vertical, Together(scripted()), share)
    # A worker alone has one more, for a short call beside long ones.
    assert site.state()["verticals"][NAME]["batches"]["most_outstanding"] == calls


def test_without_batches_there_is_no_queue(make_site: MakeSite, vertical: Vertical, scripted: Any) -> None:
    assert make_site(replace(vertical, batching=None), Together(scripted())).batchers == {}
    assert make_site(vertical, scripted()).batchers == {}


async def test_canaries_go_past_the_queue_and_requests_through_it(
    make_site: MakeSite, vertical: Vertical, scripted: Any, query: RankQuery
) -> None:
    scorer = Together(scripted())
    site = make_site(vertical, scorer, 1 / 3)
    guard = site.guards[NAME]
    await guard.check()
    tasks = [asyncio.create_task(guard.score(query, Deadline.after(5))) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert site.batchers[NAME].waiting == 1
    await guard.check()
    assert (scorer.canaries, scorer.batches, guard.trusted) == (2, 1, True)
    for _ in range(2):
        assert scorer.gate
        scorer.gate.set_result(None)
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)


async def test_a_backend_that_loses_its_trust_holds_no_queue_and_is_blamed_once(
    make_site: MakeSite, vertical: Vertical, scripted: Any, query: RankQuery
) -> None:
    scorer = Together(scripted())
    site = make_site(vertical, scorer, 1 / 3)
    guard = site.guards[NAME]
    await guard.check()
    tasks = [asyncio.create_task(guard.score(query, Deadline.after(5))) for _ in range(3)]
    await asyncio.sleep(0.01)
    for _ in range(guard.breaker.LATE):
        guard.breaker.unanswered(0.0)
    assert not guard.trusted
    guard._tell("it hangs")
    await asyncio.wait(tasks[1:], timeout=1)
    assert [type(task.exception()) for task in tasks[1:]] == [EjectedError, EjectedError]
    # Those who were sent away say nothing new of the backend.
    causes = [guard.breaker.cause]
    assert scorer.gate
    scorer.gate.set_exception(UnavailableError("gone"))
    with pytest.raises(UnavailableError):
        await tasks[0]
    assert [*causes, guard.breaker.cause] == [Cause.SILENT, Cause.GONE]
