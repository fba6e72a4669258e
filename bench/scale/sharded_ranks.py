"""What each rank does for `bench.scale.sharded`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from exfm.distill.config import TeacherOptions
from exfm.models.checkpoint import Checkpoint, load_checkpoint
from exfm.models.sharded.ranks import Ranks, joined_ranks

START, SHARDED, ROWS = "start.pt", "teacher.sharded", "rows.npz"
CHUNK = 2048


def begin(folder: Path, options: TeacherOptions, sizes: dict[str, Any], half: int) -> None:
    """Take the unsharded teacher's weights, annotate, learn the first half, save, annotate."""
    torch.set_num_threads(1)
    with joined_ranks(60) as ranks:
        start, learner, rows = _made(folder, options, sizes, ranks)
        learner.start_from(start)
        untrained = learner.annotate(0, rows["rows"], rows["counters"])
        learned_s = learn(learner, rows, 0, half)
        learner.save(folder / SHARDED, start)
        _tell(folder, ranks, learner, rows, untrained=untrained, learned_s=learned_s)


def go_on(folder: Path, options: TeacherOptions, sizes: dict[str, Any], half: int) -> None:
    """Restore what `begin` saved, annotate, learn the second half, annotate."""
    torch.set_num_threads(1)
    with joined_ranks(60) as ranks:
        _, learner, rows = _made(folder, options, sizes, ranks)
        learner.restore(folder / SHARDED)
        restored = learner.annotate(half, rows["rows"], rows["counters"])
        learned_s = learn(learner, rows, half, len(rows["rows"]))
        _tell(folder, ranks, learner, rows, restored=restored, learned_s=learned_s)


def learn(learner: Any, rows: dict[str, Any], start: int, stop: int) -> float:
    """Rows [start, stop) in chunks; the seconds that it took."""
    began_s = time.perf_counter()
    for at in range(start, stop, CHUNK):
        chunk = slice(at, min(at + CHUNK, stop))
        learner.learn(rows["rows"][chunk], rows["counters"][chunk], rows["labels"][chunk])
    return time.perf_counter() - began_s


def told_by(folder: Path, world: int) -> dict[str, Any]:
    """What so many ranks said."""
    with np.load(folder / f"said-{world}.npz") as said:
        return dict(said)


def _made(
    folder: Path, options: TeacherOptions, sizes: dict[str, Any], ranks: Ranks
) -> tuple[Checkpoint, Any, dict[str, Any]]:
    from exfm.distill.sharded.learner import ShardedTeacherLearner  # noqa: PLC0415  # imports torchrec

    start = load_checkpoint(folder / START)
    with np.load(folder / ROWS) as stored:
        rows = dict(stored)
    counters = rows["counters"].shape[1]
    return start, ShardedTeacherLearner(start.schema, start.tasks, counters, options, ranks=ranks, **sizes), rows


def _tell(folder: Path, ranks: Ranks, learner: Any, rows: dict[str, Any], **said: Any) -> None:
    dist.barrier()
    began_s = time.perf_counter()
    learned = learner.annotate(learner.learned, rows["rows"], rows["counters"])
    annotated_s = time.perf_counter() - began_s
    if ranks.rank == 0:
        np.savez(folder / f"said-{ranks.world}.npz", learned=learned, annotated_s=annotated_s, **said)
