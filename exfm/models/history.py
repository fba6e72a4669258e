"""The student's view of a user's history: a set of the teacher's past embeddings pooled into one vector.

LoopFM (arXiv 2605.29280), stage 3. What a row may see was decided before: `exfm.features.history.latest`.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from exfm.features.schema import HistorySpec
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
        made = _rowwise(self.value, values).unflatten(2, (self._heads, -1))
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
        keys = _rowwise(self.key, torch.cat([values, recency], 2)).unflatten(2, (self._heads, -1))
        scores = (keys * self.query).sum(3) / math.sqrt(self.query.shape[1])
        # A softmax over nothing would be NaN: exponentials are masked after, not before, they are normalized.
        top = torch.where(known.unsqueeze(2), scores, -torch.inf).amax(1, keepdim=True)
        raised = torch.exp(torch.clamp(scores - torch.nan_to_num(top, neginf=0.0), max=0.0)) * present
        return raised / raised.sum(1, keepdim=True).clamp(min=1e-12)


def _rowwise(layer: nn.Module, values: Tensor) -> Any:
    """The layer over a matrix of all events: over three axes an exported graph would hold its weight transposed."""
    return layer(values.flatten(0, 1)).reshape(*values.shape[:2], -1)


class HistoryTokens(nn.Module):
    """A request's history as embeddings beside those of its features.

    Args:
        spec: what a row holds.
        dimension: width of one embedding.
        tokens: how many to make.
        pooling, heads: see `HistoryEncoder`.
    """

    def __init__(
        self, spec: HistorySpec, dimension: int, *, tokens: int = 2, pooling: Pooling = "mean", heads: int = 4
    ) -> None:
        super().__init__()
        if tokens < 1:
            raise ModelError(f"history: tokens must be >= 1, got {tokens}")
        self.count, self._length, self._dimension = tokens, spec.length, dimension
        self.encoder = HistoryEncoder(spec.dimension, tokens * dimension, pooling, heads)

    def forward(self, row: Tensor) -> Tensor:
        """Rows float32 [B, L * (d + 2)], as `exfm.features.history.row_of` makes them -> [B, tokens, dimension]."""
        length = self._length
        values = row[:, : -2 * length].reshape(-1, length, row.shape[1] // length - 2)
        pooled: Tensor = self.encoder(values, row[:, -2 * length : -length] > 0, row[:, -length:])
        # A sum over all events starts at the scale of one.
        scaled = pooled / length if self.encoder.pooling == "sum" else pooled
        return scaled.reshape(-1, self.count, self._dimension)


def make_history(spec: HistorySpec, dimension: int, options: Mapping[str, Any]) -> HistoryTokens:
    """Build it; `ModelError` names an unknown option."""
    try:
        return HistoryTokens(spec, dimension, **options)
    except TypeError as error:
        raise ModelError(f"history: {error}") from error
