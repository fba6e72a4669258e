"""The student: the compact model that serves one vertical, with the request's side computed once per request."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from exfm.features.schema import Schema
from exfm.models.backbone import Shape, make_backbone
from exfm.models.dense import set_base_rate
from exfm.models.embedding import EmbeddingTable


class Student(nn.Module):
    """Table, backbone and serving head; nothing that only training needs.

    Args:
        schema: the vertical's own schema, `Schema.for_vertical(name)`.
        backbone: a name in `exfm.models.backbone.BACKBONES`.
        dimension: width of one embedding.
        options: the backbone's own options.
    """

    def __init__(
        self, schema: Schema, backbone: str = "dot", dimension: int = 16, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        user, context, ad = (len(schema.side(side)) for side in ("user", "context", "ad"))
        self.table = EmbeddingTable(schema.rows, dimension, len(schema.tasks))
        shape = Shape(user + context, context, ad, dimension)
        self.backbone = make_backbone(backbone, shape, options or {})
        self.head = nn.Linear(self.backbone.width, len(schema.tasks))

    def forward(self, request_rows: Tensor, candidate_rows: Tensor, owner: Tensor) -> Tensor:
        """Score candidates.

        Args:
            request_rows: int64 [B, user + context features], rows of the stacked table.
            candidate_rows: int64 [M, ad features], rows of the stacked table.
            owner: int64 [M], which request each candidate belongs to, in [0, B).

        Returns:
            Logits, float32 [M, T], tasks in the schema's order.
        """
        return self.score(self.table(request_rows), self.table(candidate_rows), owner)

    def score(self, request: Tensor, candidate: Tensor, owner: Tensor) -> Tensor:
        """`forward` after the lookup: gathered table rows [B, ., d + T] and [M, ., d + T] -> logits [M, T]."""
        hidden, first_order = self.represent(request, candidate, owner)
        logits: Tensor = self.head(hidden) + first_order
        return logits

    def score_one_request(self, request: Tensor, candidate: Tensor) -> Tensor:
        """`score` for the candidates of one request: rows [1, ., d + T] and [M, ., d + T] -> logits [M, T]."""
        request_embeddings, request_first = self.table.split(request)
        embeddings, first = self.table.split(candidate)
        hidden = self.backbone.of_one_request(embeddings, self.backbone.request(request_embeddings))
        logits: Tensor = self.head(hidden) + (first + request_first)
        return logits

    def represent(self, request: Tensor, candidate: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's output [M, width], which heads read, and the first-order part of the logits [M, T]."""
        request_embeddings, request_first = self.table.split(request)
        embeddings, first = self.table.split(candidate)
        state = self.backbone.request(request_embeddings)
        gathered = tuple(torch.index_select(part, 0, owner) for part in state)
        first_order = first + torch.index_select(request_first, 0, owner)
        return self.backbone.candidate(embeddings, gathered), first_order

    def start_at(self, rate: Tensor) -> None:
        """Let the untrained head answer a base rate, float32 [T]."""
        set_base_rate(self.head, rate)
