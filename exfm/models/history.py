"""The student's view of a user's history: a set of the teacher's past embeddings pooled into one vector.

LoopFM (arXiv 2605.29280), stage 3. What a row may see was decided before: `exfm.features.history.latest`.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from exfm.models.backbone import ModelError

Pooling = Literal["sum", "mean", "attention"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_HOUR_S = 3600.0


class HistoryEncoder(nn.Module):
    """float32 [B, L, d] -> [B, width]; a history without events gives zero, whatever the weights.

    Args:
        dimension: d, of the stored embeddings.
        width: of the result.
        pooling: `sum` tells how much history there is, `mean` doesn't, `attention` weighs events by a learned query
            over what they are and how old they are, one query per head.
        heads: of the attention; divides `width`.
    """

    def __init__(self, dimension: int, width: int, pooling: Pooling = "sum", heads: int = 4) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"history pooling {pooling!r} is none of {', '.join(POOLINGS)}")
        if pooling == "attention" and width % heads:
            raise ModelError(f"history: {heads} heads don't divide a width of {width}")
        self.pooling = pooling
        self._heads = heads if pooling == "attention" else 1
        self.value = nn.Linear(dimension, width, bias=False)
        if pooling == "attention":
            self.key = nn.Linear(dimension + 1, width)
            self.query = nn.Parameter(torch.randn(heads, width // heads) * 0.1)

    def forward(self, values: Tensor, known: Tensor, age_s: Tensor) -> Tensor:
        """Pool.

        Args:
            values: float32 [B, L, d], zero where there is no event.
            known: bool [B, L].
            age_s: float32 [B, L], seconds since the event.
        """
        weights = self._weights(values, known, age_s)
        made = self.value(values).unflatten(2, (self._heads, -1))
        pooled: Tensor = (weights.unsqueeze(3) * made).sum(1).flatten(1)
        return pooled

    def _weights(self, values: Tensor, known: Tensor, age_s: Tensor) -> Tensor:
        """How much each event counts, [B, L, heads]; zero where there is none."""
        present = known.to(values.dtype).unsqueeze(2)
        if self.pooling == "sum":
            return present
        if self.pooling == "mean":
            return present / present.sum(1, keepdim=True).clamp(min=1.0)
        recency = torch.log1p(age_s.clamp(min=0.0) / _HOUR_S).unsqueeze(2)
        keys = self.key(torch.cat([values, recency], 2)).unflatten(2, (self._heads, -1))
        scores = (keys * self.query).sum(3) / math.sqrt(self.query.shape[1])
        # A softmax over nothing would be NaN: exponentials are masked after, not before, they are normalized.
        top = torch.where(known.unsqueeze(2), scores, -torch.inf).amax(1, keepdim=True)
        raised = torch.exp(torch.clamp(scores - torch.nan_to_num(top, neginf=0.0), max=0.0)) * present
        return raised / raised.sum(1, keepdim=True).clamp(min=1e-12)
