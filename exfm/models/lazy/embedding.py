"""A lazy table in the place of `exfm.models.embedding.EmbeddingTable`: same shapes, any number of rows."""

from pathlib import Path

import torch
from torch import Tensor, nn

from exfm.models.embedding import sum_of_middle
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import ReadTable
from exfm.models.lazy.frozen import FrozenTable, frozen_at


class LazyEmbedding(nn.Module):
    """Embeddings out of a table on disk; it has no parameters, so other optimizers don't see it.

    A checkpoint holds `digest`, uint8 [32], of the table as of its last commit (`exfm.models.lazy.frozen`), in place of
    the weights.

    Args:
        table: opened; the caller closes and commits it, and may put the same one in its place, opened again.
    """

    def __init__(self, table: ReadTable) -> None:
        super().__init__()
        self.dimension = table.form.dimension
        self.digest: Tensor
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))
        self.table = table
        self._given: list[tuple[Tensor, Tensor]] = []

    def sized(self, rows: int, dimension: int, tasks: int) -> "LazyEmbedding":
        """Itself, if these are its sizes; else `LazyTableError`."""
        form = self.table.form
        if (form.rows, form.dimension, form.tasks) != (rows, dimension, tasks):
            raise LazyTableError(f"the table is {form}, but {rows} rows of {dimension} + {tasks} are asked for")
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [B, F] rows -> float32 [B, F, dimension + tasks]; `LazyTableError` if a row is outside the table."""
        unique, place = torch.unique(rows, return_inverse=True)
        values = torch.from_numpy(self.table.read(unique.numpy())[0])
        if self.training and torch.is_grad_enabled():
            values.requires_grad_()
            self._given.append((unique, values))
        return values[place]

    def split(self, gathered: Tensor) -> tuple[Tensor, Tensor]:
        """See `EmbeddingTable.split`."""
        return gathered[..., : self.dimension], sum_of_middle(gathered[..., self.dimension :])

    def take_gradient(self) -> tuple[Tensor, Tensor] | None:
        """Of all forwards since the last call: different rows, int64 [N], and their gradient, float32 [N, width]."""
        given = [(rows, values.grad) for rows, values in self._given if values.grad is not None]
        self._given.clear()
        if not given:
            return None
        rows, place = torch.unique(torch.cat([each for each, _ in given]), return_inverse=True)
        gradient = torch.zeros(len(rows), self.table.form.width)
        return rows, gradient.index_add_(0, place, torch.cat([each for _, each in given]))


def frozen_embedding(home: Path, digest: bytes) -> LazyEmbedding:
    """A table to annotate with, kept under `home`; `LazyTableError` if it is not there."""
    return LazyEmbedding(FrozenTable(frozen_at(home, digest)))
