"""A lazy table in the place of `exfm.models.embedding.EmbeddingTable`: same shapes, same steps, any number of rows."""

import numpy as np
import torch
from torch import Tensor, nn

from exfm.models.lazy.table import LazyTable


class LazyEmbedding(nn.Module):
    """Embeddings out of a table on disk; it has no parameters, so other optimizers and checkpoints don't see it.

    Args:
        table: opened; the caller closes and commits it.
        rate: step size of embeddings.
        first_order_rate: of first-order weights.
        epsilon: added to the root of the accumulator, in units of one example's gradient.
    """

    def __init__(self, table: LazyTable, rate: float, first_order_rate: float, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.dimension = table.form.dimension
        self._table, self._epsilon = table, epsilon
        self._rates = torch.tensor([rate, first_order_rate])
        self._given: list[tuple[Tensor, Tensor]] = []

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [B, F] rows -> float32 [B, F, dimension + tasks]; `LazyTableError` if a row is outside the table."""
        unique, place = torch.unique(rows, return_inverse=True)
        values = torch.from_numpy(self._table.read(unique.numpy())[0])
        if self.training and torch.is_grad_enabled():
            values.requires_grad_()
            self._given.append((unique, values))
        return values[place]

    def split(self, gathered: Tensor) -> tuple[Tensor, Tensor]:
        """See `EmbeddingTable.split`."""
        return gathered[..., : self.dimension], gathered[..., self.dimension :].sum(1)

    @torch.no_grad()
    def step(self, examples: int) -> None:
        """One step of row-wise Adagrad, as `exfm.distill.optimizer.RowAdagrad`, from the gradients since the last one.

        Args:
            examples: in the mean of the loss.

        Raises:
            LazyTableError: a full disk, say; no row was changed, and the gradients are gone.
        """
        given = [(rows, values.grad) for rows, values in self._given if values.grad is not None]
        self._given.clear()
        if not given:
            return
        rows, place = torch.unique(torch.cat([each for each, _ in given]), return_inverse=True)
        gradient = torch.zeros(len(rows), self._table.form.width)
        gradient.index_add_(0, place, torch.cat([each for _, each in given]) * float(examples))
        parts = gradient[:, : self.dimension], gradient[:, self.dimension :]
        before = torch.from_numpy(self._table.read(rows.numpy())[1])
        accumulated = before + torch.stack([part.square().mean(1) for part in parts], 1)
        scale = self._rates / (accumulated.sqrt() + self._epsilon)
        change = -torch.cat([parts[0] * scale[:, :1], parts[1] * scale[:, 1:]], 1)
        self._table.learn(rows.numpy(), np.asarray(change), np.asarray(accumulated))
