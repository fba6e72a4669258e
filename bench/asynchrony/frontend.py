"""A frontend as `exfm-serve` runs it, with `Rank` and `RecordOutcomes` on a socket, its log and the online store.

Only its model is none. `python -m bench.asynchrony.frontend LOG PORT STORE LOOKUPS`; how its look-ups of histories
ended is in the file LOOKUPS when it has ended.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.features.schema import HistorySpec
from exfm.features.signature import HISTORY
from serving.budget.deadline import Deadline
from serving.catalog import Catalog, Golden, Vertical
from serving.inference.scorer import Scores
from serving.ladder.prior import Prior
from serving.query import RankQuery
from serving.worker import Worker, WorkerOptions

SCALE = Scale(rows=2000, days=2, users=200, ads=100)
BUDGET_S = 1.0
"""Wide: it is not speed that is measured, and others want the processor."""
CANDIDATES = 5
SPEC = HistorySpec(8, 32)
"""Of the histories that it reads; `bench.asynchrony.teacher` makes such."""


class Prompt:
    """A scorer that answers at once: the canary with what it should, all else with the prior."""

    async def score(self, query: RankQuery, _: Deadline) -> Scores:
        golden = query.vertical.golden
        known = query.request_id == "canary"
        return Scores(golden.probability if known else query.vertical.prior.lookup(query.ads))


def world() -> Source:
    """Whom it serves and with what."""
    return Source("simulator", *simulate(0, SCALE))


def catalog_of(source: Source) -> Catalog:
    """A source's verticals as if they were published."""
    return Catalog({each.name: _vertical(source, each.name) for each in source.schema.verticals})


def blocks_at(source: Source, name: str, row: int, ads: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
    """A request's blocks as a vertical sends them: user and context of a row, and some places in the catalogue."""
    schema = source.schema.for_vertical(name)
    request = source.examples.slice(row, row + 1).project(source.schema, schema).blocks
    candidates = source.ads.project(source.schema, schema).blocks
    return {**request, **{name: block[ads] for name, block in candidates.items()}}


def _vertical(source: Source, name: str) -> Vertical:
    schema, ads = source.schema.for_vertical(name), np.arange(CANDIDATES)
    tasks = len(schema.tasks)
    rates = np.linspace(0.1, 0.3, len(source.ads), dtype=np.float32)[:, None].repeat(tasks, 1)
    prior = Prior(source.ads.key, rates, np.full(tasks, 0.2, np.float32))
    empty = Golden({}, np.full((CANDIDATES, tasks), 0.5, np.float32), 1e-4)
    bare = Vertical(name, 1, schema, BUDGET_S, schema.vertical(name).max_candidates, prior, empty)
    blocks = blocks_at(source, name, 0, ads)
    inputs = {
        each.name: np.ascontiguousarray(np.concatenate([blocks[block.name] for block in each.blocks], 1))
        for each in bare.tensors
    }
    return Vertical(
        name, 1, schema, BUDGET_S, bare.max_candidates, prior, Golden(inputs, empty.probability, empty.tolerance)
    )


def reading(vertical: Vertical, spec: HistorySpec) -> Vertical:
    """A vertical as if its student read histories."""
    inputs: dict[str, Any] = {**vertical.golden.inputs, HISTORY: np.zeros((1, spec.width), np.float32)}
    golden = replace(vertical.golden, inputs=inputs)
    return replace(vertical, schema=replace(vertical.schema, history=spec), golden=golden, lite=None)


async def main(url: str, port: int, store: str, lookups: Path) -> None:
    """Serve until SIGTERM, then drain."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    plain = catalog_of(world())
    catalog = Catalog({name: reading(each, SPEC) for name, each in plain.items()})
    scorers = {"here": dict.fromkeys(catalog, Prompt())}
    options = WorkerOptions(listen=f"127.0.0.1:{port}", log=url, histories=store, drain_s=1.0)
    worker = Worker(catalog, scorers, options)
    await worker.start()
    await stop.wait()
    await worker.stop()
    lookups.write_text(json.dumps(worker.state()["histories"]["found"]))  # noqa: ASYNC240 nothing else runs any more


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
