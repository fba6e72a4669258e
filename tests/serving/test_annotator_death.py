"""The foundation model beside a server that serves: what it learns comes back, and its death is not noticed."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.asynchrony.teacher import publish
from exfm.features.schema import Columns, HistorySpec, Schema
from exfm.features.signature import HISTORY
from serving.catalog import Catalog, Vertical
from serving.client import RankCall, Ranking, RankingClient, Tier

SPEC = HistorySpec(length=3, dimension=8)
USER = 77
BUDGET_S = 1.0
"""Wide enough for a machine that has much else to do; the annotator's share of it is what is asked about."""
JOIN = ("--default-window", "0.2", "--lateness-s", "0.2", "--idle-s", "0.1")
# Not at its own priority: on a busy machine it would wait for its turn.
ANNOTATE = ("--workers", "local:0", "--linger-s", "0.1", "--batch", "512", "--keep-priority")


def _reading(vertical: Vertical, spec: HistorySpec | None) -> Vertical:
    inputs: dict[str, NDArray[Any]] = dict(vertical.golden.inputs)
    if spec:
        inputs[HISTORY] = np.zeros((1, spec.width), np.float32)
    schema = replace(vertical.schema, history=spec, columns=Columns(user="user"))
    return replace(vertical, schema=schema, budget_s=BUDGET_S, golden=replace(vertical.golden, inputs=inputs))


async def test_the_annotators_death_is_invisible_to_rank(
    running: Any, scripted: Any, catalog: Catalog, tiny_schema: Schema, tmp_path: Path
) -> None:
    """Impressions of `feed_click` become the histories that `feed_long_view` is served with; then kill -9."""
    publish(tiny_schema, tmp_path / "snapshots", dimension=4, embedding=8)
    click, view = catalog["feed_click"], catalog["feed_long_view"]
    served = Catalog({click.name: _reading(click, None), view.name: _reading(view, SPEC)})
    places = {"log": f"sqlite:{tmp_path / 'log.sqlite'}", "histories": f"lmdb:{tmp_path / 'store'}"}
    command = ("-m", "exfm.commands.annotate", "run", "--dir", str(tmp_path), *JOIN, *ANNOTATE)
    async with running(scripted(), served, **places) as (address, worker), RankingClient(address) as client:
        annotator = await asyncio.create_subprocess_exec(
            sys.executable, *command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=asyncio.subprocess.DEVNULL
        )
        rankings: list[Ranking] = []

        async def rank(name: str) -> None:
            call = RankCall(name, ad_ids=[1, 2], ads=[{"ad": 1}, {"ad": 2}], user={"user": USER})
            rankings.append(await client.rank(replace(call, request_id=f"r{len(rankings)}"), timeout_s=5))

        def hits() -> int:
            return int(worker.histories.state()["found"].get("hit", 0))

        try:
            await _until(lambda: hits() > 0, lambda: _both(rank))
        finally:
            annotator.send_signal(signal.SIGKILL)
            await annotator.wait()
        before, hits_before = len(rankings), hits()
        await _until(lambda: len(rankings) >= before + 40 and hits() > hits_before, lambda: _both(rank))
    # Whatever else the machine has to do may cost an answer its tier; the annotator costs none its budget.
    assert sum(ranking.tier is Tier.FULL for ranking in rankings) >= 0.9 * len(rankings)
    assert all(ranking.spent_ms < ranking.budget_ms for ranking in rankings)
    assert worker.state()["log"]["written"] == {"impressions": len(rankings)}
    found = worker.histories.state()["found"]
    assert set(found) <= {"hit", "timeout", "miss", "outage"}
    assert sum(found.values()) == len(rankings) // 2


async def _both(rank: Callable[[str], Awaitable[None]]) -> None:
    await rank("feed_click")
    await rank("feed_long_view")
    await asyncio.sleep(0.02)


async def _until(condition: Callable[[], bool], act: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await act()
