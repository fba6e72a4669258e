import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.budget.deadline import Deadline
from serving.catalog import Catalog
from serving.errors import UnavailableError
from serving.inference.canary import Canary
from serving.inference.guard import GuardedScorer
from serving.inference.scorer import Scores
from serving.query import RankQuery
from serving.readiness import Readiness


class Switch:
    """A scorer that is there or not."""

    def __init__(self) -> None:
        self.there = True

    async def score(self, query: RankQuery, until: Deadline) -> Scores:  # noqa: ARG002 the protocol's
        if not self.there:
            raise UnavailableError("gone")
        return Scores(query.vertical.golden.probability)


class Told:
    """What the readiness said, in order."""

    def __init__(self) -> None:
        self.states: list[bool] = []

    async def __call__(self, ready: bool) -> None:
        self.states.append(ready)


async def test_ready_needs_every_vertical_and_changes_are_told_once(catalog: Catalog) -> None:
    switches = {name: Switch() for name in catalog}
    guards = {name: GuardedScorer(switches[name], Canary(catalog[name])) for name in catalog}
    told = Told()
    readiness = Readiness({name: [guard] for name, guard in guards.items()}, told)
    switches["feed_click"].there = False
    await readiness.round()
    assert not readiness.ready
    assert "gone" in readiness.last["feed_click"]
    switches["feed_click"].there = True
    await readiness.round()
    await readiness.round()
    switches["feed_click"].there = False
    await readiness.round()
    assert told.states == [True, False]


async def test_doubt_brings_the_next_canary_forward(catalog: Catalog, eventually: Callable[..., Any]) -> None:
    switch, told = Switch(), Told()
    guard = GuardedScorer(switch, Canary(catalog["feed_click"]))
    readiness = Readiness({"feed_click": [guard]}, told, interval_s=3600.0, eager_s=0.01)
    running = asyncio.create_task(readiness.run())
    await asyncio.wait_for(readiness.wait(), 5)
    switch.there = False
    vertical = catalog["feed_click"]
    query = RankQuery("r", vertical, vertical.golden.inputs, np.arange(8), np.ones(8))
    with pytest.raises(UnavailableError):
        await guard.score(query, Deadline.after(1))
    assert not guard.trusted
    switch.there = True
    await eventually(lambda: guard.trusted)
    running.cancel()
