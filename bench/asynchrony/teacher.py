"""A teacher that nobody trained, for measurements that don't ask what it says."""

from pathlib import Path
from typing import Any

import torch

from exfm.augment.annotate.snapshots import Snapshots
from exfm.distill.config import load_config
from exfm.distill.counters import width_of
from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint
from exfm.models.teacher import Teacher


def publish(schema: Schema, folder: Path, name: str = "bench", **model: Any) -> Snapshots:
    """Make it the current snapshot in `folder`; further arguments are the model's."""
    options = {"embedding": 32, "counters": width_of(load_config(schema.name).counters, len(schema.tasks), 0), **model}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = Teacher(schema, schema.tasks, **options)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}.made"
    Checkpoint(
        kind="teacher",
        schema=schema,
        tasks=schema.tasks,
        state=teacher.state_dict(),
        options=options,
        lineage={"data": schema.name, "learned_until_ms": 0},
    ).save(path)
    snapshots = Snapshots(folder)
    snapshots.publish(path, name)
    path.unlink()
    return snapshots
