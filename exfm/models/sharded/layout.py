"""How the stacked table falls into tables by feature, as torchrec shards them: each feature's rows over all ranks.

One table of a feature holds its embeddings, another its first-order weights, so that each has its own accumulator per
row, as in `exfm.distill.optimizer.RowAdagrad`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from exfm.features.schema import Schema

MULTIPLE = 4
"""Kernels want rows of a multiple of so many columns; those behind the weights stay zero."""
EMBEDDING, FIRST_ORDER = "embedding", "first_order"
PARTS = (EMBEDDING, FIRST_ORDER)


@dataclass(frozen=True)
class Layout:
    """The tables.

    Attributes:
        rows: of each feature, in the schema's order.
        dimension: columns of an embedding.
        tasks: columns of first-order weights.
    """

    rows: tuple[int, ...]
    dimension: int
    tasks: int

    @classmethod
    def of(cls, schema: Schema, dimension: int, tasks: int) -> "Layout":
        """The tables of a teacher."""
        return cls(tuple(feature.rows for feature in schema.ordered), dimension, tasks)

    @property
    def starts(self) -> Tensor:
        """int64 [features]: each feature's first row in the stacked table."""
        ends = torch.tensor(self.rows).cumsum(0)
        return ends - torch.tensor(self.rows)

    def columns(self, part: str) -> int:
        """Of a part's rows that are weights."""
        return self.dimension if part == EMBEDDING else self.tasks

    def width(self, part: str) -> int:
        """Of a part's rows as they are stored."""
        return -(-self.columns(part) // MULTIPLE) * MULTIPLE

    def shrinkage(self, part: str) -> float:
        """Weights over stored columns: by that much the mean of a row's squared gradient is too small."""
        return self.columns(part) / self.width(part)

    def piece(self, weight: Tensor, part: str, place: int, rows: slice) -> Tensor:
        """Rows of the table of a part and a feature, unpadded: a view of the stacked one.

        Args:
            weight: the stacked table, float32 [rows, dimension + tasks].
            part: of its columns.
            place: of the feature, in the schema's order.
            rows: of the feature.
        """
        own = slice(0, self.dimension) if part == EMBEDDING else slice(self.dimension, None)
        start = sum(self.rows[:place])
        return weight[start + rows.start : start + rows.stop, own]

    def stack(self, tables: Mapping[tuple[str, int], Tensor]) -> Tensor:
        """The stacked table of padded ones, by part and feature."""
        pieces = [
            torch.cat([tables[part, place][:, : self.columns(part)] for place in range(len(self.rows))])
            for part in PARTS
        ]
        return torch.cat(pieces, 1)


def table_name(part: str, place: int) -> str:
    """Of the table of a part and a feature, by its place in the schema's order."""
    return f"{part}_{place}"
