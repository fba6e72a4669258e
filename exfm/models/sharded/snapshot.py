"""Between a sharded teacher's folder and an ordinary teacher's checkpoint, for teachers that fit into one process."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.layout import PARTS, Layout, table_name

FORMAT = 1
AVERAGE, BUFFER, WEIGHT = "average.", "buffer.", "weight."
TABLE = "table.weight"
"""The stacked table's name in a teacher's state."""


def narrow(schema: Schema) -> Schema:
    """The same features in next to no rows: for a teacher whose own table gives way to another one."""
    return replace(schema, features=tuple(replace(each, buckets=min(each.buckets, 2)) for each in schema.features))


def about(teacher: Checkpoint) -> dict[str, object]:
    """What a sharded teacher's folder says of it beside its tensors; `teacher` holds no state."""
    return {
        "format": FORMAT,
        "schema": teacher.schema.to_dict(),
        "tasks": list(teacher.tasks),
        "options": dict(teacher.options),
        "quality": teacher.quality,
        "lineage": teacher.lineage,
    }


def stateless(folder: Path) -> Checkpoint:
    """The teacher in a folder without its weights; `ShardingError` if there is none of this format."""
    told = checkpoint.about(folder)
    if told.get("format") != FORMAT:
        raise ShardingError(f"{folder}: format {told.get('format')!r}, this version reads {FORMAT}")
    return Checkpoint(
        kind="teacher",
        schema=Schema.from_dict(told["schema"]),
        tasks=tuple(told["tasks"]),
        state={},
        options=told["options"],
        quality=told["quality"],
        lineage=told["lineage"],
    )


def teacher_of(folder: Path) -> Checkpoint:
    """The ordinary teacher with the weights that annotate; needs memory for all of them.

    Raises:
        ShardingError: there is no whole checkpoint in the folder.
    """
    teacher = stateless(folder)
    read = checkpoint.read(folder, (AVERAGE, BUFFER, WEIGHT))
    state = {_without(name): tensor for name, tensor in read.items() if not name.startswith(WEIGHT)}
    return replace(teacher, state={TABLE: _table(layout_of(teacher), read), **state})


def layout_of(teacher: Checkpoint) -> Layout:
    """Of a teacher's tables."""
    return Layout.of(teacher.schema, int(teacher.options["dimension"]), len(teacher.tasks))


def _table(layout: Layout, read: dict[str, Tensor]) -> Tensor:
    places = range(len(layout.rows))
    return layout.stack({(part, i): read[WEIGHT + table_name(part, i)] for part in PARTS for i in places})


def _without(name: str) -> str:
    return name.partition(".")[2]
