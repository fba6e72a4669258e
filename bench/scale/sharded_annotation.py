"""Annotation by two ranks beside the unsharded annotator, both from the checkpoint that ranks wrote, in turns."""

import time
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from exfm.augment.annotate.forward import Annotations, join
from exfm.augment.annotate.snapshots import Snapshots
from exfm.augment.annotate.workers.opening import open_workers
from exfm.augment.annotate.workers.protocol import Task, Workers
from exfm.models.sharded.snapshot import teacher_of

SHARDS, WHOLE = "shards", "whole"
LIMIT_S = 120.0


def measure(folder: Path, sharded: Path, given: dict[str, Any], *, turns: int = 3, batch: int = 8192) -> dict[str, Any]:
    """How far apart, and how fast.

    Args:
        folder: for snapshots.
        sharded: a sharded teacher's folder.
        given: `rows` and `counters` to annotate.
        turns: of each; the best one counts.
        batch: rows of a task.

    Returns:
        examples_per_s: of two ranks; alone_examples_per_s: of one local worker; max_diff: the greatest difference of
        any probability; codes_differ: the share of the embeddings' bytes that differ.
    """
    snapshots = Snapshots(folder / "snapshots")
    snapshots.publish(sharded, SHARDS)
    teacher_of(sharded).save(folder / "whole.pt")
    snapshots.publish(folder / "whole.pt", WHOLE)
    urls = {SHARDS: "ranks:2", WHOLE: "local:1"}
    made, best_s = {}, dict.fromkeys(urls, np.inf)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(closing(open_workers(urls[name], folder / "snapshots"))) for name in urls}
        for turn in range(turns + 1):  # the first one loads the snapshots
            for name, workers in opened.items():
                began_s = time.perf_counter()
                made[name] = _annotated(workers, name, given, batch)
                if turn:
                    best_s[name] = min(best_s[name], time.perf_counter() - began_s)
    rows = len(given["rows"])
    return {
        "examples_per_s": rows / best_s[SHARDS],
        "alone_examples_per_s": rows / best_s[WHOLE],
        "max_diff": float(np.abs(made[SHARDS].probability - made[WHOLE].probability).max()),
        "codes_differ": float((made[SHARDS].codes != made[WHOLE].codes).mean()),
    }


def _annotated(workers: Workers, name: str, given: dict[str, Any], batch: int) -> Annotations:
    answers: list[Future[Annotations]] = []
    for at in range(0, len(given["rows"]), batch):
        rows, counters = (given[part][at : at + batch] for part in ("rows", "counters"))
        answers.append(workers.submit(Task(name, rows, counters, "int8")))
    return join([answer.result(LIMIT_S) for answer in answers])
