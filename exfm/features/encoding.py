"""From raw feature values to rows of the stacked embedding table.

Training and the exported runner call the same encoder, so they cannot disagree; numpy only, 1.26 and 2 alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exfm.features.columns import columns_of, order_of
from exfm.features.row import RowByRow
from exfm.features.schema import SIDES, Schema, Side
from exfm.features.signature import blocks_of
from exfm.features.values import MISSING

__all__ = ["FEW", "MISSING", "Encoded", "Encoder", "SidesEncoder"]

FEW = 4
"""Up to so many rows are encoded one by one."""


@dataclass(frozen=True)
class Encoded:
    """Rows of one side, or of several side by side.

    Attributes:
        rows: int64 [N, F], each in [0, schema.rows).
        unknown: how many category values were given but stand in no vocabulary (they share row 0 of their feature).
    """

    rows: NDArray[np.int64]
    unknown: int


class Encoder:
    """Encodes one side's blocks at a time; columns follow `schema.side(side)`."""

    def __init__(self, schema: Schema) -> None:
        self._sides: dict[Side, SidesEncoder] = {side: SidesEncoder(schema, (side,)) for side in SIDES}

    def encode(self, side: Side, ids: NDArray[np.int64], numbers: NDArray[np.float32]) -> Encoded:
        """Encode raw values.

        Args:
            side: whose features these are.
            ids: int64 [N, ids and categories of the side]; `MISSING` where a value is absent.
            numbers: float32 [N, numbers of the side], finite.
        """
        return self._sides[side].encode(ids, numbers)


class SidesEncoder:
    """Encodes the blocks of some sides joined as in a `Tensor`; columns of the rows follow each `schema.side(side)`."""

    def __init__(self, schema: Schema, sides: Sequence[Side]) -> None:
        firsts = np.cumsum([0, *(feature.rows for feature in schema.ordered)]).tolist()
        start = {feature.name: first for feature, first in zip(schema.ordered, firsts, strict=False)}
        place = {f.name: index for index, f in enumerate([f for side in sides for f in schema.side(side)])}
        blocks = [blocks_of(schema, side) for side in sides]
        ids = [feature for block, _ in blocks for feature in block.features]
        numbers = [feature for _, block in blocks for feature in block.features]
        source = {feature.name: index for index, feature in enumerate(ids)}
        self._row_by_row = RowByRow(ids, numbers, start, place)
        # Inside, columns that become rows in the same way stand side by side.
        ways = list(columns_of(ids, start))
        names = [name for group, _ in ways for name in group]
        ends = np.cumsum([0, *(len(group) for group, _ in ways)]).tolist()
        self._ids = [(slice(*span), columns) for span, (_, columns) in zip(pairwise(ends), ways, strict=True)]
        self._source = order_of([source[name] for name in names])
        self._numbers = [(np.array(f.boundaries, np.float32), start[f.name]) for f in numbers]
        inside = {name: index for index, name in enumerate([*names, *(feature.name for feature in numbers)])}
        self._order = order_of([inside[name] for name in place])
        self._width = len(place)
        categories = [feature.name for feature in ids if feature.kind == "category"]
        self._categories = [source[name] for name in categories], [place[name] for name in categories]
        self._row_zero = np.array([start[name] for name in categories], np.int64)

    def encode(self, ids: NDArray[np.int64], numbers: NDArray[np.float32]) -> Encoded:
        """Encode raw values.

        Args:
            ids: int64 [N, ids and categories of the sides]; `MISSING` where a value is absent.
            numbers: float32 [N, numbers of the sides], finite.
        """
        if len(ids) <= FEW:
            return Encoded(*self._row_by_row.encode(ids, numbers))
        # Column by column in memory, for what is done is mostly one thing to a whole column.
        raw = np.ascontiguousarray(ids.T) if self._source is None else ids.T.take(self._source, axis=0)
        rows, unknown = np.empty((self._width, len(ids)), np.int64), 0
        for span, columns in self._ids:
            unknown += columns.fill(rows[span], raw[span])
        for (boundaries, start), column, into in zip(self._numbers, numbers.T, rows[len(raw) :], strict=True):
            np.add(boundaries.searchsorted(column, side="right"), start, out=into)
        made = np.ascontiguousarray(rows.T) if self._order is None else rows.T.take(self._order, axis=1)
        return Encoded(made, unknown)

    def unknown_per_row(self, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which rows `Encoded.unknown` counts, int64 [N]: with values given that share the row of a missing one."""
        source, place = self._categories
        counts: NDArray[np.int64] = ((rows[:, place] == self._row_zero) & (ids[:, source] != MISSING)).sum(axis=1)
        return counts
