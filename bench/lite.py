"""`python -m bench.lite`: what a call of a vertical's lite model takes beside one of the full model, taking turns."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.budget.deadline import Deadline
from serving.catalog import Vertical
from serving.embedded.environment import ensure
from serving.embedded.process import EmbeddedTriton
from serving.inference.endpoint import TritonEndpoint
from serving.inference.lite import LiteScorer
from serving.inference.scorer import Scorer
from serving.inference.triton import TritonScorer
from serving.query import RankQuery
from serving.repository import load_catalog, triton_configs

SIZES = (200, 1000)
POOL = 40
"""Different requests that are sent in turn, so that the tables' rows are not always the same."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; prints one JSON object. Returns 0, or 2 where no vertical has a lite model."""
    parser = argparse.ArgumentParser("python -m bench.lite", description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("build/demo/model_repository"), metavar="DIR")
    parser.add_argument("--rounds", type=int, default=600, help="calls of each model per size (600)")
    asked = parser.parse_args(arguments)
    catalog = load_catalog(asked.model_repository)
    paired = [vertical for vertical in catalog.values() if vertical.lite]
    if not paired:
        sys.stderr.write(f"bench.lite: {asked.model_repository}: no vertical has a lite model\n")
        return 2
    configs = triton_configs(asked.model_repository, catalog)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedTriton(ensure(), asked.model_repository, configs, Path(folder) / "triton.log") as triton,
    ):
        measured = asyncio.run(_measure(triton.address, paired, asked.rounds))
    sys.stdout.write(json.dumps(measured, indent=1) + "\n")
    return 0


async def _measure(address: str, verticals: Sequence[Vertical], rounds: int) -> list[dict[str, Any]]:
    endpoint = TritonEndpoint(address)
    try:
        sizes = [(one, min(size, one.max_candidates)) for one in verticals for size in SIZES]
        return [await _compare(TritonScorer(endpoint), one, size, rounds) for one, size in sizes]
    finally:
        await endpoint.close()


async def _compare(full: TritonScorer, vertical: Vertical, candidates: int, rounds: int) -> dict[str, Any]:
    assert vertical.lite
    scorers: dict[str, Scorer] = {"full": full, "lite": LiteScorer(full, vertical.lite)}
    took_s: dict[str, list[float]] = {name: [] for name in scorers}
    queries = [_query(vertical, candidates, seed) for seed in range(POOL)]
    for turn in range(rounds + POOL):
        for name, scorer in scorers.items():
            began_s = time.perf_counter()
            await scorer.score(queries[turn % POOL], Deadline.after(2.0))
            took_s[name].append(time.perf_counter() - began_s)
    median_ms = {name: 1e3 * float(np.median(spent[POOL:])) for name, spent in took_s.items()}
    ratio = median_ms["lite"] / median_ms["full"]
    facts = {"vertical": vertical.name, "candidates": candidates, "ratio": round(ratio, 3)}
    return {**facts, **{f"{name}_ms": round(spent, 3) for name, spent in median_ms.items()}}


def _query(vertical: Vertical, candidates: int, seed: int) -> RankQuery:
    """The golden request with its ads drawn again and other keys in the first id, so that rows lie scattered."""
    draw, golden = np.random.default_rng(seed), vertical.golden
    rows = draw.integers(0, len(golden.probability), candidates)
    inputs = {name: values[rows] if name.startswith("candidate_") else values for name, values in golden.inputs.items()}
    if "candidate_ids" in inputs:
        inputs["candidate_ids"][:, 0] = draw.integers(0, 10**6, candidates)
    query = RankQuery("bench", vertical, golden.inputs, np.arange(candidates), np.ones(candidates))
    return replace(query, inputs=inputs)


if __name__ == "__main__":
    sys.exit(main())
