"""Small dense pieces that several models share."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them; the last one is linear."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class TokenMix(nn.Module):
    """A learned linear map over the token axis, no bias: [B, n, d] -> [B, m, d]."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outer, inner))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.matmul(self.weight, tokens)


def set_base_rate(layer: nn.Module, rate: Tensor) -> None:
    """Put the logit of a base rate (float32 [T], within (0, 1)) into a linear layer's bias."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a base rate goes into a linear layer, not {type(layer).__name__}")
    with torch.no_grad():
        layer.bias.copy_(torch.logit(rate))
