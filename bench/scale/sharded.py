"""The teacher with its tables over two ranks (torchrec) beside the unsharded one: the same answers, and how fast."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.scale import sharded_annotation
from bench.scale import sharded_ranks as told
from bench.scale.example_log import simulated
from bench.scale.ranks import run_ranks
from bench.scale.servers import ServerMissingError
from exfm.distill.config import Rates, TeacherOptions, TrainConfig
from exfm.distill.learners import TeacherLearner
from exfm.distill.stream import TeacherStream
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded.extra import INSTALL
from exfm.models.sharded.snapshot import teacher_of

OPTIONS = TeacherOptions(
    model={"dimension": 16, "embedding": 8, "dropout": 0.0},  # dropout draws, and draws differ between ranks
    rates=Rates(average=0.98, multipliers={"ad_topic": 2.0}),
)
MOMENTS = ("middle", "end")


def measure(
    folder: Path, *, rows: int, options: TeacherOptions = OPTIONS, batch: int = 512, noises: int = 3
) -> dict[str, Any]:
    """Two ranks train over gloo, save, and one and three ranks go on from there, each beside the unsharded teacher.

    Args:
        folder: for checkpoints.
        rows: of the log.
        options: of the teacher.
        batch: rows of a step.
        noises: how often the unsharded teacher is trained again with weights that start a relative 1e-8 apart.

    Returns:
        max_diff: the largest difference of any probability between the same weights on 0 (unsharded), 1, 2 and 3 ranks,
        `differences` of each; trained: that between training on ranks and training unsharded, halfway and at the end;
        noise: that between training unsharded twice, of which rounding makes as much; learned: how far training moved a
        probability; examples_per_s: trained by two ranks, annotation not counted; the same and annotation for each
        number of ranks; annotation: by `exfm-annotate`'s workers, see `sharded_annotation`; parameters of the tables.
    """
    if find_spec("torchrec") is None:  # the ranks import it, this process has no use for it
        raise ServerMissingError(f"torchrec is not installed: {INSTALL}")
    torch.set_num_threads(1)
    source = simulated(rows)
    stream = TeacherStream.of(source, TrainConfig(teacher=options))
    given = {"rows": stream.rows, "counters": stream.counters, "labels": stream.labels}
    sizes: dict[str, Any] = {"seed": 0, "batch": batch}

    def plain() -> TeacherLearner:
        return TeacherLearner(source.schema, stream.tasks, stream.counters.shape[1], options, **sizes)

    made = {"counters": stream.counters.shape[1], **options.model}
    start = Checkpoint("teacher", source.schema, stream.tasks, plain().state(), options=made)
    said = _on_ranks(folder, start, given, options, sizes)
    alone = _alone(plain(), given)
    again = [_alone(_disturbed(plain(), seed), given) for seed in range(noises)]
    rates = {str(world): _rates(each, rows) for world, each in sorted({0: alone, **said}.items())}
    return {
        **_differences(said, alone, _unsharded(folder / told.SHARDED, given)),
        "noise": {when: max((_apart(each[when], alone[when]) for each in again), default=0.0) for when in MOMENTS},
        "examples_per_s": rates["2"][0],
        "train_examples_per_s": {world: learned for world, (learned, _) in rates.items()},
        "annotate_examples_per_s": {world: annotated for world, (_, annotated) in rates.items()},
        "annotation": sharded_annotation.measure(folder, folder / told.SHARDED, given),
        "parameters": source.schema.rows * (int(options.model["dimension"]) + len(stream.tasks)),
        "rows": rows,
    }


def _on_ranks(
    folder: Path, start: Checkpoint, given: dict[str, Any], options: TeacherOptions, sizes: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    start.save(folder / told.START)
    np.savez(folder / told.ROWS, **given)
    half = len(given["rows"]) // 2
    for world, work in ((2, told.begin), (1, told.go_on), (3, told.go_on)):
        run_ranks(world, work, folder, options, sizes, half)
    return {world: told.told_by(folder, world) for world in (1, 2, 3)}


def _alone(plain: TeacherLearner, given: dict[str, Any]) -> dict[str, Any]:
    """What the unsharded teacher says at the same points, and the seconds that it took."""
    half, rows = len(given["rows"]) // 2, len(given["rows"])
    untrained = plain.annotate(0, given["rows"], given["counters"])
    learned_s, began_s = told.learn(plain, given, 0, half), time.perf_counter()
    middle = plain.annotate(half, given["rows"], given["counters"])
    annotated_s = time.perf_counter() - began_s
    told.learn(plain, given, half, rows)
    end = plain.annotate(rows, given["rows"], given["counters"])
    return {
        "untrained": untrained,
        "middle": middle,
        "end": end,
        "learned_s": learned_s,
        "annotated_s": annotated_s,
    }


def _differences(said: dict[int, dict[str, Any]], alone: dict[str, Any], unsharded: Any) -> dict[str, Any]:
    two = said[2]["learned"]
    same = {"untrained": _apart(said[2]["untrained"], alone["untrained"]), "unsharded": _apart(unsharded, two)}
    same |= {f"restored on {world}": _apart(said[world]["restored"], two) for world in (1, 3)}
    trained = {"by 2": _apart(two, alone["middle"])}
    trained |= {f"on by {world}": _apart(said[world]["learned"], alone["end"]) for world in (1, 3)}
    moved = _apart(two, said[2]["untrained"])
    return {"max_diff": max(same.values()), "differences": same, "trained": trained, "learned": moved}


@torch.no_grad()
def _disturbed(plain: TeacherLearner, seed: int) -> TeacherLearner:
    draw = torch.Generator().manual_seed(seed)
    for weight in plain.model.parameters():
        weight.mul_(1 + 1e-8 * torch.randn(weight.shape, generator=draw))
    return plain


def _rates(each: dict[str, Any], rows: int) -> tuple[float, float]:
    """Examples per second trained and annotated."""
    return (rows // 2) / float(each["learned_s"]), rows / float(each["annotated_s"])


def _unsharded(folder: Path, given: dict[str, Any]) -> Any:
    model = teacher_of(folder).build()
    with torch.no_grad():
        return torch.sigmoid(model(torch.from_numpy(given["rows"]), torch.from_numpy(given["counters"]))).numpy()


def _apart(some: Any, other: Any) -> float:
    return float(np.abs(some - other).max())
