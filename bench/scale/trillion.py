"""A teacher of 10^12 parameters on one disk and over two: trained, published, annotating, beside a small table's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.scale.example_log import simulated
from bench.scale.table_run import CHUNK, DIMENSION, Run, one_thread
from exfm.data.chunks import by_rows
from exfm.data.source import Source
from exfm.features.schema import SIDES

PARAMETERS = 10**12
SMALL_BUCKETS = 512


def measure(folder: Path, *, rows: int, chunk: int = CHUNK) -> dict[str, Any]:
    """One pass over a simulated log per table, each chunk predicted before it is learned; then a published snapshot.

    Args:
        folder: for the tables; its file system must allow a file of 4.5 TB.
        rows: of the log.
        chunk: how many of them are annotated before any of them is learned.

    Returns:
        Parameters, file sizes in bytes, resident set, examples per second that the teacher learned and, before that,
        annotated, and normalized entropy of the first task. Cold and warm are the last chunk's rates after that, with
        every page of the table's files out of memory first; `snapshot` those of the published snapshot. `two_ranks` is
        the same with the table in two parts, each in a process of its own, in turns with the one; `fresh_ids` that of a
        log whose ids all are new, so that every example makes three rows.
    """
    source = simulated(rows)
    ids = sum(feature.kind == "id" for feature in source.schema.ordered)
    large = -(-PARAMETERS // ((DIMENSION + len(source.schema.tasks)) * ids))
    with one_thread():
        one, two = passed(
            Run(folder / "one", source, large, ["part"], chunk),
            Run(folder / "two", source, large, ["part-0", "part-1"], chunk),
        )
        (small,) = passed(Run(folder / "small", source, SMALL_BUCKETS, ["part"], chunk))
        (fresh,) = passed(Run(folder / "fresh", with_fresh_ids(source), large, ["part"], chunk))
    return {
        **one,
        "ne_small_table": small["ne"],
        "small_table_parameters": small["parameters"],
        "two_ranks": two,
        "fresh_ids": {name: value for name, value in fresh.items() if name != "ne"},
        "rows": rows,
    }


def passed(*runs: Run) -> list[dict[str, Any]]:
    """Let the runs pass over their logs in turns, chunk by chunk, so that their rates compare; their figures."""
    for chunk in by_rows(len(runs[0].stream.rows), runs[0].chunk):
        for run in runs:
            run.step(chunk)
    return [run.measured() for run in runs]


def with_fresh_ids(source: Source) -> Source:
    """The same log with ids that nothing else has; what is counted by the keys of user and ad stays."""
    draw, blocks = np.random.default_rng(0), dict(source.examples.blocks)
    for side in SIDES:
        columns = [feature.kind for feature in source.schema.side(side) if feature.kind != "number"]
        chosen = blocks[f"{side}_ids"].copy()
        for place, kind in enumerate(columns):
            if kind == "id":
                chosen[:, place] = draw.integers(1, 1 << 62, len(chosen))
        blocks[f"{side}_ids"] = chosen
    return replace(source, examples=replace(source.examples, blocks=blocks))
