"""The stacked embedding table: one matrix for all features, row ranges as `exfm.features.encoding` assigns them."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class EmbeddingTable(nn.Module):
    """`rows` x (`dimension` + `tasks`): an embedding, then one first-order weight per task.

    Gradients of `weight` are sparse; `exfm.distill.optimizer.RowAdagrad` consumes them. Embeddings start as
    N(0, 0.02^2), first-order weights at zero.
    """

    def __init__(self, rows: int, dimension: int, tasks: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.weight = nn.Parameter(torch.randn(rows, dimension + tasks) * 0.02)
        with torch.no_grad():
            self.weight[:, dimension:] = 0.0

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [B, F] table rows -> float32 [B, F, dimension + tasks]."""
        return functional.embedding(rows, self.weight, sparse=True)

    def split(self, gathered: Tensor) -> tuple[Tensor, Tensor]:
        """Gathered rows -> embeddings [B, F, dimension] and the features' summed first-order terms [B, tasks]."""
        return gathered[..., : self.dimension], sum_of_middle(gathered[..., self.dimension :])


def sum_of_middle(values: Tensor) -> Tensor:
    """[B, F, T] -> [B, T] as a sum along the last axis: along a middle one ONNX Runtime takes five times as long."""
    features, tasks = values.shape[1:]
    return values.transpose(1, 2).reshape(-1, features).sum(1).reshape(-1, tasks)
