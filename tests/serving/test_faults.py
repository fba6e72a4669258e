"""A real Triton that is hurt while requests are under way: the documented answer, inside the budget."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.caller.ranking import Ranking
from serving.catalog import Catalog
from serving.client import DeadlinePassedError, RankCall, RankingClient, Tier
from serving.inference.breaker import Cause
from serving.inference.endpoint import TritonEndpoint
from serving.inference.triton import TritonScorer
from serving.repository import load_catalog
from serving.supervisor import Supervisor
from serving.worker import Worker

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment
    from serving.embedded.process import EmbeddedTriton

CALL = RankCall("feed_click", ad_ids=np.arange(100, 150), ads={"ad": np.arange(50)}, user={"user": 1, "city": "oslo"})

BUSY = {"scores_late", "backend_busy", "too_slow", "work_ahead", "no_room"}
"""What a machine with much else to do may answer at any time."""


@pytest.fixture(scope="module")
def published(published_repository: Path) -> Catalog:
    return load_catalog(published_repository)


@pytest.fixture(scope="module")
def triton(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["EmbeddedTriton"]:
    """A Triton of this module's own, to be hurt."""
    from serving.embedded.process import EmbeddedTriton

    log = tmp_path_factory.mktemp("hurt") / "triton.log"
    with EmbeddedTriton(triton_environment, published_repository, ("feed_click", "feed_long_view"), log) as server:
        yield server


TRANSPORT_S = 0.05
"""What the caller's side may add to the budget: two ways through the loopback, in a process that does both sides."""

Timed = tuple[Ranking, float]


async def _rank_for(seconds: float, client: RankingClient) -> list[Timed]:
    """One request after another, four at a time, with the seconds that the caller waited for each."""
    rankings: list[Timed] = []
    refused = 0
    until_s = asyncio.get_running_loop().time() + seconds

    async def one_after_another() -> None:
        nonlocal refused
        while asyncio.get_running_loop().time() < until_s:
            began_s = time.monotonic()
            try:
                ranking = await client.rank(CALL, timeout_s=5)
            except DeadlinePassedError:
                refused += 1
            else:
                rankings.append((ranking, time.monotonic() - began_s))

    await asyncio.gather(*(one_after_another() for _ in range(4)))
    assert refused <= len(rankings) // 100  # held up by this machine's other work, as in `_assert_documented`
    return rankings


def _assert_documented(timed: list[Timed], reasons: set[str]) -> None:
    rankings = [ranking for ranking, _ in timed]
    assert {ranking.tier_reason for ranking in rankings} <= reasons | {""}
    for ranking in rankings:
        assert (ranking.tier is Tier.FULL) == (ranking.tier_reason == "")
        assert sorted(ranking.ad_ids) == list(range(100, 150))
    # One in a hundred may be held up by this machine's other work.
    late = [(ranking.stages_ms, s) for ranking, s in timed if s > ranking.budget_ms / 1e3 + TRANSPORT_S]
    assert len(late) <= len(rankings) // 100, late


async def _trusted(worker: Worker, eventually: Callable[..., Any]) -> None:
    await eventually(lambda: all(guard.trusted for guards in worker.guards.values() for guard in guards), within_s=30)


async def test_a_triton_that_stands_still_is_waited_for_no_longer_than_the_budget(
    triton: "EmbeddedTriton", published: Catalog, running: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    endpoint = TritonEndpoint(triton.address)
    async with running(TritonScorer(endpoint), published) as (address, worker), RankingClient(address) as client:
        assert (await client.rank(CALL, timeout_s=5)).model_version == 1
        os.kill(triton.pid, signal.SIGSTOP)
        try:
            still = await _rank_for(2.0, client)
            _assert_documented(still, BUSY | {"backend_unavailable"})
            assert {ranking.tier for ranking, _ in still[4:]} == {Tier.PRIOR}
            # A few unanswered requests end the waiting, long before canaries would.
            (guard,) = worker.guards["feed_click"]
            assert not guard.trusted
            assert guard.breaker.cause is Cause.SILENT
            quick = await _rank_for(0.1, client)
            _assert_documented(quick, {"backend_unavailable"})
            assert min(ranking.spent_ms for ranking, _ in quick) < 5
        finally:
            os.kill(triton.pid, signal.SIGCONT)
        await eventually(lambda: guard.trusted, within_s=2)
        await _trusted(worker, eventually)
        again = await _rank_for(0.3, client)
        _assert_documented(again, BUSY)
        assert Tier.FULL in {ranking.tier for ranking, _ in again}
        await eventually(lambda: worker.watchdog.running == 0)
    await endpoint.close()


async def test_a_triton_that_is_killed_costs_the_tier_and_comes_back(
    triton: "EmbeddedTriton", published: Catalog, running: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    endpoint = TritonEndpoint(triton.address)
    supervisor = Supervisor(triton, poll_s=0.05)
    async with running(TritonScorer(endpoint), published) as (address, worker), RankingClient(address) as client:
        requests = asyncio.create_task(_rank_for(1.0, client))
        await asyncio.sleep(0.3)
        os.kill(triton.pid, signal.SIGKILL)
        rankings = await requests
        _assert_documented(rankings, {"backend_unavailable"} | BUSY)
        assert {ranking.tier for ranking, _ in rankings} >= {Tier.FULL, Tier.PRIOR}
        assert not worker.guards["feed_click"][0].trusted
        watching = asyncio.create_task(supervisor.run())
        await _trusted(worker, eventually)
        watching.cancel()
        assert supervisor.restarts == 1
        again = await _rank_for(0.3, client)
        _assert_documented(again, BUSY)
        assert Tier.FULL in {ranking.tier for ranking, _ in again}
        await eventually(lambda: worker.watchdog.running == 0)
    await endpoint.close()
