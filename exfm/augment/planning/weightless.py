"""A teacher as far as a plan needs it, however large: its weights stay where they lie."""

from pathlib import Path

import torch
from torch import Tensor

from exfm.augment.annotate.forward import line_of
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, snapshot_of
from exfm.models.backbone import ModelError
from exfm.models.checkpoint import CheckpointError, load_checkpoint
from exfm.models.embedding import EmbeddingTable
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.snapshot import stateless
from exfm.models.teacher import Teacher


def weightless(path: Path) -> Snapshot:
    """A teacher whose dense weights mean nothing, and whose table has one row for all; a table on disk is opened.

    Args:
        path: of a checkpoint, or of a sharded teacher's folder.

    Raises:
        SnapshotError: there is no teacher, or it can't be made of these options.
    """
    try:
        told = stateless(path) if path.is_dir() else load_checkpoint(path, mapped=True)
        if told.kind != "teacher" or told.table_digest:
            return snapshot_of(path.stem, told)
        model = Teacher(told.schema, told.tasks, **told.options, make_table=_OneRow)
        return Snapshot.of(path.stem, "", told, model.eval())
    except (CheckpointError, ShardingError) as error:
        raise SnapshotError(str(error)) from error
    except (ModelError, TypeError, KeyError, RuntimeError) as error:
        raise SnapshotError(f"{path}: {line_of(error)}") from error


class _OneRow(EmbeddingTable):
    """The shapes of a table of any number of rows, in the memory of one."""

    def __init__(self, rows: int, dimension: int, tasks: int) -> None:  # noqa: ARG002
        super().__init__(1, dimension, tasks)
        self.only: Tensor
        self.register_buffer("only", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(self.only.expand(rows.shape))
