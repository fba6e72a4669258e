"""From the join's examples to rows of the whole schema: what a vertical doesn't send is missing, not invented."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from exfm.data.examples import Examples
from exfm.features.encoding import MISSING
from exfm.features.schema import SIDES, Feature, Schema
from exfm.features.signature import Block, blocks_of
from exfm.features.values import key_of

Array = NDArray[Any]


class PoisonError(ValueError):
    """Rows among these can never be annotated; the message says why."""


class RowReader:
    """Reads batches of one schema's verticals."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._of = {each.name: schema.for_vertical(each.name) for each in schema.verticals}
        self._hashes = {name: own.blocks_digest for name, own in self._of.items()}

    def read(self, batch: pa.RecordBatch) -> Examples:
        """The rows as examples of the whole schema.

        Raises:
            PoisonError: a row is of an unknown vertical, was made with another schema, or its blocks don't fit.
        """
        schema, tasks = self._schema, self._schema.tasks
        vertical = batch.column("vertical").to_numpy(zero_copy_only=False)
        self._refuse_others(vertical, batch.column("schema_hash").to_numpy(zero_copy_only=False))
        groups = [(name, np.flatnonzero(vertical == name)) for name in dict.fromkeys(vertical.tolist())]
        labels = _matrix(batch, "labels", np.dtype("<f4"), len(tasks))
        delays = _matrix(batch, "delays", np.dtype("<f4"), len(tasks))
        made = Examples(
            time_ms=batch.column("time_ms").to_numpy(),
            user=batch.column("user").to_numpy(),
            ad=batch.column("ad").to_numpy(),
            blocks={
                block.name: self._block(batch, block, groups) for side in SIDES for block in blocks_of(schema, side)
            },
            labels={task: np.ascontiguousarray(labels[:, column]) for column, task in enumerate(tasks)},
            bid=batch.column("bid").to_numpy().astype(np.float32),
            delay_s={task: np.ascontiguousarray(delays[:, column]) for column, task in enumerate(tasks)},
        )
        for name, block in made.blocks.items():
            if name.endswith("numbers") and not np.isfinite(block).all():
                raise PoisonError(f"block {name} holds a value that is not finite")
        return made

    def _refuse_others(self, vertical: Array, digest: Array) -> None:
        for name, given in set(zip(vertical.tolist(), digest.tolist(), strict=True)):
            if self._hashes.get(name) != given:
                raise PoisonError(f"vertical {name[:64]!r} with schema {given[:12]!r} is not the snapshot's")

    def _block(self, batch: pa.RecordBatch, block: Block, groups: list[tuple[str, NDArray[np.int64]]]) -> Array:
        made = np.empty((len(batch), block.width), block.dtype)
        made[:] = [_absent(feature) for feature in block.features]
        for name, index in groups:
            own = next(each for each in blocks_of(self._of[name], block.side) if each.kind == block.kind)
            part = batch.take(pa.array(index)) if len(index) < len(batch) else batch
            values = _matrix(part, block.name, np.dtype(block.dtype), own.width)
            place = {feature.name: column for column, feature in enumerate(block.features)}
            made[np.ix_(index, np.array([place[f.name] for f in own.features], np.int64))] = values
            for repeats in self._vertical_columns(block, own):
                made[index, repeats] = key_of(name)
        return made

    def _vertical_columns(self, block: Block, own: Block) -> list[int]:
        """Features that only repeat which vertical served: known to the log without being sent."""
        source = self._schema.columns.vertical
        return [
            column
            for column, feature in enumerate(block.features)
            if source and feature.source == source and feature not in own.features
        ]


def _absent(feature: Feature) -> int | float:
    return feature.default if feature.kind == "number" else int(MISSING)


def _matrix(batch: pa.RecordBatch, name: str, kind: np.dtype[Any], width: int) -> Array:
    """A binary column's rows as an array [N, width], without a look at each row's object."""
    column, size = batch.column(name), width * kind.itemsize
    if not len(column):
        return np.empty((0, width), kind)
    _, offsets, data = column.buffers()
    edges = np.frombuffer(offsets, np.int32, len(column) + 1, 4 * column.offset)
    if (np.diff(edges) != size).any():
        raise PoisonError(f"block {name}: expected {width} x {kind.itemsize} bytes in each row")
    if not size:
        return np.empty((len(column), 0), kind)
    return np.frombuffer(data, kind, len(column) * width, int(edges[0])).reshape(-1, width)


def bisect(batch: pa.RecordBatch, work: Callable[[pa.RecordBatch], Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    """Do the work on as large parts of a failing batch as will go.

    Args:
        batch: at least one row.
        work: raises `PoisonError` for a part that holds a bad row.

    Returns:
        Results of the good parts in order, and the bad rows' places with what was wrong.
    """
    good: list[Any] = []
    bad: list[tuple[int, str]] = []

    def visit(start: int, stop: int) -> None:
        try:
            good.append(work(batch.slice(start, stop - start)))
        except PoisonError as error:
            if stop - start == 1:
                bad.append((start, str(error)))
            else:
                middle = (start + stop) // 2
                visit(start, middle)
                visit(middle, stop)

    visit(0, len(batch))
    return good, bad
