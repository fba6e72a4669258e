"""DCN V2's cross layer (arXiv 2008.13535, section 3.4) in its low-rank form."""

from torch import Tensor, nn


class LowRankCross(nn.Module):
    """x0 * (U V^T x + b) + x, all float32 [M, inputs], with U and V of `rank` columns."""

    def __init__(self, inputs: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, inputs)

    def forward(self, first: Tensor, value: Tensor) -> Tensor:
        crossed: Tensor = first * self.up(self.down(value)) + value
        return crossed
