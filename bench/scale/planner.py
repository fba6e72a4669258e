"""What the planner says of annotation on this machine, from the speed of its parts, and what annotation then does."""

import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.asynchrony import throughput
from bench.asynchrony.teacher import publish
from exfm.augment.planning.plan import Cluster, Traffic, plan
from exfm.augment.planning.speed import size_of, speed_here
from exfm.data.simulator import Scale, simulate

ROWS = 30_000


def measure(folder: Path, *, rounds: int, rows: int = ROWS) -> dict[str, Any]:
    """Predict, annotate with one worker process, predict again.

    Returns:
        predicted: examples per second, the middle of both predictions; measured: from the join's output to stream and
        store; ratio: the one over the other; load_average: what else ran, which the measured figure feels and the
        predicted one doesn't; steps: the planner's arithmetic.
    """
    torch.set_num_threads(1)
    schema, *_ = simulate(0, Scale(rows=500))
    snapshots = publish(schema, folder / "teacher", **throughput.MODEL)
    snapshot = snapshots.load(snapshots.current())

    def predicted() -> Cluster:
        return speed_here(snapshot, Cluster(1, 8e9), throughput.BATCH, 2.0)

    said, load = [predicted()], os.getloadavg()[0]
    place = folder / "annotate"
    place.mkdir()
    found = throughput.measure(place, rows=rows, rounds=rounds, seconds=1.0)
    said.append(predicted())
    cluster = replace(said[-1], examples_per_s=median(each.examples_per_s for each in said))
    made = plan(size_of(snapshot), cluster, Traffic(1.0, throughput.BATCH))
    return {
        "predicted": made.examples_per_s,
        "measured": found["examples_per_s"],
        "ratio": made.examples_per_s / found["examples_per_s"],
        "forward_examples_per_s": found["forward_examples_per_s"],
        "predictions": [each.examples_per_s for each in said],
        "load_average": load,
        "steps": [str(step) for step in made.steps],
        "rows": rows,
    }
