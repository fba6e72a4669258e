"""Between a sharded teacher's folder and an ordinary teacher's checkpoint, for teachers that fit into one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.layout import PARTS, Layout, table_name
from exfm.models.teacher import Teacher

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
    teacher = dense_of(folder)
    table = _table(layout_of(teacher), checkpoint.read(folder, (WEIGHT,)))
    return replace(teacher, state={TABLE: table, **teacher.state})


def dense_of(folder: Path) -> Checkpoint:
    """The teacher with all weights that annotate but those of its tables; `ShardingError` as `stateless`."""
    teacher, read = stateless(folder), checkpoint.read(folder, (AVERAGE, BUFFER))
    return replace(teacher, state={_without(name): tensor for name, tensor in read.items()})


class AbsentTable(nn.Module):
    """In the place of a table that this process does not hold; it can't be asked."""

    def __init__(self, *_: int) -> None:
        super().__init__()

    def forward(self, rows: Tensor) -> Tensor:  # noqa: ARG002
        raise RuntimeError("the teacher's table lies in shards, which this process does not hold")


def tableless(teacher: Checkpoint) -> Teacher:
    """A model of what `dense_of` gave, in evaluation mode, whose table is absent; `ShardingError` on a misfit."""
    try:
        make: Any = AbsentTable
        model = Teacher(teacher.schema, teacher.tasks, **teacher.options, make_table=make)
        model.load_state_dict(teacher.state)
    except (TypeError, KeyError, RuntimeError) as error:
        raise ShardingError(" ".join(str(error).split("\n\t")[:2])) from error
    return model.eval()


def layout_of(teacher: Checkpoint) -> Layout:
    """Of a teacher's tables."""
    return Layout.of(teacher.schema, int(teacher.options["dimension"]), len(teacher.tasks))


def _table(layout: Layout, read: dict[str, Tensor]) -> Tensor:
    places = range(len(layout.rows))
    return layout.stack({(part, i): read[WEIGHT + table_name(part, i)] for part in PARTS for i in places})


def _without(name: str) -> str:
    return name.partition(".")[2]
