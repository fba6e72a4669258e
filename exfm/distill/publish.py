"""Checkpoints out of a finished run: the teacher's, and one per student with all that export needs."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.data.examples import project
from exfm.data.source import Source
from exfm.distill.config import StudentOptions
from exfm.distill.lazy import setting_of
from exfm.distill.scoring import TrainingReport
from exfm.distill.stream import VerticalStream
from exfm.distill.trainer import Trainer
from exfm.distill.vertical import VerticalTraining
from exfm.features.signature import HISTORY, tensors_of
from exfm.models.checkpoint import Checkpoint, CheckpointError, digest_of, lite_of, load_checkpoint
from exfm.models.lazy.frozen import holds_frozen, remove_frozen

GOLDEN_CANDIDATES = 64


def publish(trainer: Trainer, report: TrainingReport, out: Path) -> list[Path]:
    """Write `teacher.pt`, `students/<vertical>.pt` and `students/<vertical>.lite.pt` under `out`.

    Each file appears whole or not at all. A teacher's table on disk comes under `tables`. A vertical of which no row
    has come yet has none.
    """
    lineage = lineage_of(trainer)
    teacher = _teacher(trainer, report, lineage)
    paths = [out / "teacher.pt"]
    before = _table_of(paths[0])
    if trainer.teacher.lazy:
        trainer.teacher.lazy.hand_on(out, teacher.table_digest)
    teacher.save(paths[0])
    if before and before != teacher.table_digest:
        forget = trainer.teacher.lazy.give_way if trainer.teacher.lazy else remove_frozen
        forget(out, before)
    lineage = {**lineage, "teacher_snapshot": _snapshot_id(trainer, teacher.state)}
    for vertical in (each for each in trainer.verticals if each.learners.learned):
        student = _student(trainer, vertical, report, lineage)
        made = {f"{student.vertical}.pt": student}
        if vertical.lite:
            made[f"{student.vertical}.lite.pt"] = _lite(student, trainer, vertical, report)
        for name, checkpoint in made.items():
            paths.append(out / "students" / name)
            checkpoint.save(paths[-1])
    return paths


def lineage_of(trainer: Trainer) -> dict[str, str | int | float]:
    """What a run's models were made from."""
    examples, before = trainer.source.examples, trainer.before
    first_ms, last_ms = int(examples.time_ms[0]), int(examples.time_ms[-1])
    return {
        "data": trainer.source.name,
        "rows": len(examples) + (before.rows if before else 0),
        "first_ms": min(before.first_ms, first_ms) if before and before.rows else first_ms,
        "last_ms": max(before.learned_until_ms, last_ms) if before else last_ms,
        "learned_until_ms": trainer.learned_until_ms,
        "quality": "last day, each row predicted before it was learned by a student that went on to the log's end",
        "seed": trainer.config.seed,
        "code_version": _code_version(),
    }


def golden_request(source: Source, stream: VerticalStream, seed: int) -> dict[str, NDArray[Any]]:
    """A user in a context of the last day, with ads of the catalogue, as the served model's input tensors.

    Returns:
        By tensor name: request tensors [1, width], candidate tensors [min(64, ads), width].
    """
    random = np.random.default_rng(seed)
    last_day = stream.index[stream.within(source.last_day, len(source.examples))]
    row = int(random.choice(last_day if len(last_day) else stream.index))
    ads = random.choice(len(source.ads), min(GOLDEN_CANDIDATES, len(source.ads)), replace=False)
    request = {name: block[row : row + 1] for name, block in source.examples.blocks.items()}
    blocks = {**request, **{name: block[ads] for name, block in source.ads.blocks.items()}}
    mine = project(blocks, source.schema, stream.schema)
    history = {HISTORY: stream.histories.rows(np.array([row]))} if stream.histories else {}
    return history | {
        tensor.name: np.ascontiguousarray(np.concatenate([mine[block.name] for block in tensor.blocks], 1))
        for tensor in tensors_of(stream.schema)
        if tensor.blocks
    }


def _teacher(trainer: Trainer, report: TrainingReport, lineage: dict[str, str | int | float]) -> Checkpoint:
    quality: dict[str, float] = {}
    for tasks in report.verticals.values():
        for task, each in tasks.items():
            figures = {"auc": each.teacher_auc, "ne": each.teacher_ne}
            quality |= {f"{name}_{task}": value for name, value in figures.items() if value is not None}
    return Checkpoint(
        kind="teacher",
        schema=trainer.source.schema,
        tasks=trainer.rows.tasks,
        state=trainer.published_teacher[1],
        options={"counters": trainer.rows.counters.shape[1], **trainer.config.teacher.model, **_table(trainer)},
        quality=quality,
        lineage=lineage,
    )


def _table_of(path: Path) -> bytes:
    """Digest of the table on disk of the checkpoint that is there, if it has one."""
    try:
        return load_checkpoint(path).table_digest if holds_frozen(path.parent) else b""
    except CheckpointError:
        return b""


def _table(trainer: Trainer) -> dict[str, Any]:
    setting = setting_of(trainer.config.teacher)
    return {"table": {"buckets": setting.buckets}} if setting else {}


def _student(
    trainer: Trainer, vertical: VerticalTraining, report: TrainingReport, lineage: dict[str, str | int | float]
) -> Checkpoint:
    options, published = trainer.config.student, vertical.published
    quality = {task: each.quality() for task, each in report.verticals[vertical.stream.name].items()}
    return Checkpoint(
        kind="student",
        schema=vertical.stream.schema,
        tasks=vertical.stream.schema.tasks,
        state=published.student,
        vertical=vertical.stream.name,
        backbone=options.backbone,
        options=_options_of(options, trainer),
        quality=_first_and_further(quality),
        lineage=lineage,
        prior=published.prior,
        golden=vertical.learners.golden or golden_request(trainer.source, vertical.stream, trainer.config.seed),
    )


def _lite(student: Checkpoint, trainer: Trainer, vertical: VerticalTraining, report: TrainingReport) -> Checkpoint:
    """The smaller student, beside the full one: all the same but for the model, its figures and the name."""
    (own,) = student.schema.verticals
    name, options, state = lite_of(own.name), trainer.config.lite, vertical.published.lite
    assert state is not None
    quality = {task: each.lite_quality() for task, each in report.verticals[own.name].items()}
    return replace(
        student,
        schema=replace(student.schema, verticals=(replace(own, name=name),)),
        vertical=name,
        state=state,
        backbone=options.backbone,
        options=_options_of(options, trainer),
        quality=_first_and_further(quality),
        lineage={**student.lineage, "tier": "lite", "serves": own.name},
    )


def _options_of(options: StudentOptions, trainer: Trainer) -> dict[str, Any]:
    history = trainer.config.history
    own = {"history": dict(history.model)} if history.length else {}
    return {"dimension": options.dimension, **options.model, **own}


def _first_and_further(quality: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The first task's figures, those of further tasks under `tasks`."""
    first, *others = quality.items()
    return {**first[1], **({"tasks": dict(others)} if others else {})}


def _snapshot_id(trainer: Trainer, state: dict[str, torch.Tensor]) -> str:
    return f"{trainer.source.name}-{trainer.published_teacher[0]}-{digest_of(state)}"


def _code_version() -> str:
    try:
        return metadata.version("exfm-serving")
    except metadata.PackageNotFoundError:
        return "unknown"
