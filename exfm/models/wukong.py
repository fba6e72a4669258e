"""Wukong's interaction layer (arXiv 2403.02545, section 3): factorization machine block plus linear compression."""

import torch
from torch import Tensor, nn

from exfm.models.dense import TokenMix, mlp


def interact(tokens: Tensor, projection: Tensor) -> Tensor:
    """The optimised factorization machine, X (X^T Y): [B, n, d], [n, k] -> [B, n, k] without ever forming X X^T."""
    return torch.matmul(tokens, torch.matmul(tokens.transpose(1, 2), projection))


class FactorizationBlock(nn.Module):
    """FMB: MLP(LayerNorm(flatten(X X^T Y))) as `outputs` tokens; doubles the order of interaction.

    Y is static, [n, rank].
    """

    def __init__(self, tokens: int, dimension: int, *, outputs: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.outputs, self.dimension = outputs, dimension
        # Scaled by 1/sqrt(n), so that activations stay near one however many tokens come in.
        self.projection = nn.Parameter(torch.randn(tokens, rank) * tokens**-0.5)
        self.norm = nn.LayerNorm(tokens * rank)
        self.mlp = mlp(tokens * rank, hidden, outputs * dimension)

    def forward(self, tokens: Tensor) -> Tensor:
        flat = interact(tokens, self.projection).flatten(1)
        made: Tensor = self.mlp(self.norm(flat))
        return made.reshape(-1, self.outputs, self.dimension)


class LinearCompression(TokenMix):
    """LCB: W_L X over the token axis, no activation; carries the lower orders forward."""


class WukongLayer(nn.Module):
    """LayerNorm(concat(FMB(X), LCB(X)) + R(X)): [B, tokens, d] -> [B, fmb + lcb, d].

    R is the identity where the token counts agree, otherwise a learned map over the token axis.
    """

    def __init__(self, tokens: int, dimension: int, *, fmb: int, lcb: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.fmb = FactorizationBlock(tokens, dimension, outputs=fmb, rank=rank, hidden=hidden)
        self.lcb = LinearCompression(tokens, lcb)
        self.residual: nn.Module = nn.Identity() if tokens == fmb + lcb else TokenMix(tokens, fmb + lcb)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = torch.cat([self.fmb(tokens), self.lcb(tokens)], 1) + self.residual(tokens)
        normed: Tensor = self.norm(mixed)
        return normed


def wukong(tokens: int, dimension: int, *, layers: int, fmb: int, lcb: int, rank: int, hidden: int) -> nn.Sequential:
    """A stack of layers over `tokens` embeddings; its output is [B, fmb + lcb, dimension]."""
    widths = [tokens] + [fmb + lcb] * (layers - 1)
    return nn.Sequential(
        *(WukongLayer(width, dimension, fmb=fmb, lcb=lcb, rank=rank, hidden=hidden) for width in widths)
    )
