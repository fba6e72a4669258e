"""The autoencoder that makes a teacher's activations small enough to keep (LoopFM, arXiv 2605.29280, stage 2)."""

import torch
from torch import Tensor, nn

from exfm.models.dense import mlp


class Compressor(nn.Module):
    """z = tanh(encoder(stop_grad(e))), and a linear decoder per prefix of z, so that any of the prefixes is usable.

    Args:
        width: D, of the activations.
        dimension: d, of the embedding.
        hidden: of the encoder.
    """

    def __init__(self, width: int, dimension: int, hidden: int = 64) -> None:
        super().__init__()
        self.dimension = dimension
        self.prefixes = prefixes_of(dimension)
        self.encoder = mlp(width, hidden, dimension)
        self.decoders = nn.ModuleList(nn.Linear(prefix, width) for prefix in self.prefixes)

    def forward(self, activations: Tensor) -> Tensor:
        """float32 [B, D] -> [B, d] within [-1, 1]; gradients stop at the activations."""
        return torch.tanh(self.encoder(activations.detach()))

    def loss(self, activations: Tensor) -> Tensor:
        """The Matryoshka loss: squared error of each prefix's reconstruction, mean over rows and columns, summed."""
        target = activations.detach()
        embedding = self(target)
        parts = [
            torch.mean((decoder(embedding[:, :prefix]) - target) ** 2)
            for prefix, decoder in zip(self.prefixes, self.decoders, strict=True)
        ]
        return torch.stack(parts).sum()


def prefixes_of(dimension: int) -> tuple[int, ...]:
    """d, d/2, d/4 where they are whole and at least 4."""
    halves = [dimension >> step for step in range(3) if dimension % (1 << step) == 0]
    return tuple(sorted({size for size in halves if size >= 4} | {dimension}))
