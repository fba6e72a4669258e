"""A teacher that only answers, its tables over all ranks, each rank holding only its own rows; imports torchrec."""

from pathlib import Path
from typing import Any

from torch import Tensor

from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.layout import Layout
from exfm.models.sharded.parallel import fill, spread, weights
from exfm.models.sharded.ranks import Ranks
from exfm.models.sharded.snapshot import TABLE, WEIGHT, dense_of
from exfm.models.sharded.table import ShardedTable
from exfm.models.teacher import Teacher


def from_shards(folder: Path, ranks: Ranks) -> Teacher:
    """The teacher in a sharded teacher's folder, which any number of ranks wrote; a collective, as are its answers.

    In evaluation mode, with the weights that annotate, on this rank's device.

    Raises:
        ShardingError: there is no whole checkpoint, or it contradicts itself.
    """
    teacher = dense_of(folder)
    model, table = _spread(teacher, teacher.state, ranks)
    checkpoint.load(folder, weights(table), (WEIGHT,))
    return model


def from_checkpoint(teacher: Checkpoint, ranks: Ranks) -> Teacher:
    """The same of an ordinary checkpoint, best a mapped one.

    Raises:
        ShardingError: it contradicts itself.
    """
    dense = {name: tensor for name, tensor in teacher.state.items() if name != TABLE}
    model, table = _spread(teacher, dense, ranks)
    stacked, layout = teacher.state[TABLE], table.layout
    wanted = (sum(layout.rows), layout.dimension + layout.tasks)
    if tuple(stacked.shape) != wanted:
        raise ShardingError(f"{TABLE!r} is {tuple(stacked.shape)} there and {wanted} by its schema")
    fill(table, stacked)
    return model


def _spread(teacher: Checkpoint, dense: dict[str, Tensor], ranks: Ranks) -> tuple[Teacher, ShardedTable]:
    def make_table(_: int, dimension: int, tasks: int) -> Any:
        return ShardedTable(Layout.of(teacher.schema, dimension, tasks))

    try:
        model = Teacher(teacher.schema, teacher.tasks, **teacher.options, make_table=make_table)
        missing, unknown = model.load_state_dict(dense, strict=False)
    except (TypeError, RuntimeError) as error:
        raise ShardingError(" ".join(str(error).split("\n\t")[:2])) from error
    if misfits := [*unknown, *(name for name in missing if not name.startswith("table."))]:
        raise ShardingError(f"its weights do not fit it: {misfits[0]!r}")
    table: Any = model.table
    spread(model, table, ranks, learning=False)
    return model.to(ranks.device).eval(), table
