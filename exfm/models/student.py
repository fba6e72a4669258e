"""The student: the compact model that serves one vertical, with the request's side computed once per request."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from exfm.features.schema import Schema
from exfm.models.backbone import ModelError, Shape, make_backbone
from exfm.models.dense import set_base_rate
from exfm.models.embedding import EmbeddingTable
from exfm.models.history import make_history


class Student(nn.Module):
    """Table, history encoder if the schema has a history, backbone and serving head; nothing that only training needs.

    Args:
        schema: the vertical's own schema, `Schema.for_vertical(name)`.
        backbone: a name in `exfm.models.backbone.BACKBONES`.
        dimension: width of one embedding.
        options: the backbone's own options.
        history: options of `exfm.models.history.HistoryTokens`.
    """

    def __init__(
        self,
        schema: Schema,
        backbone: str = "dot",
        dimension: int = 16,
        options: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        user, context, ad = (len(schema.side(side)) for side in ("user", "context", "ad"))
        self.table = EmbeddingTable(schema.rows, dimension, len(schema.tasks))
        self.history = make_history(schema.history, dimension, history or {}) if schema.history else None
        # At the end of the request's, so that backbones keep them apart like the context's features.
        past = self.history.count if self.history else 0
        shape = Shape(user + context + past, context + past, ad, dimension)
        self.backbone = make_backbone(backbone, shape, options or {})
        self.head = nn.Linear(self.backbone.width, len(schema.tasks))

    def forward(
        self, request_rows: Tensor, candidate_rows: Tensor, owner: Tensor, history: Tensor | None = None
    ) -> Tensor:
        """Score candidates.

        Args:
            request_rows: int64 [B, user + context features], rows of the stacked table.
            candidate_rows: int64 [M, ad features], rows of the stacked table.
            owner: int64 [M], which request each candidate belongs to, in [0, B).
            history: float32 [B, L * (d + 2)] (`exfm.features.history.row_of`); None where the schema has none.

        Returns:
            Logits, float32 [M, T], tasks in the schema's order.
        """
        return self.score(self.table(request_rows), self.table(candidate_rows), owner, history)

    def score(self, request: Tensor, candidate: Tensor, owner: Tensor, history: Tensor | None = None) -> Tensor:
        """`forward` after the lookup: gathered table rows [B, ., d + T] and [M, ., d + T] -> logits [M, T]."""
        hidden, first_order = self.represent(request, candidate, owner, history)
        logits: Tensor = self.head(hidden) + first_order
        return logits

    def score_one_request(self, request: Tensor, candidate: Tensor, history: Tensor | None = None) -> Tensor:
        """`score` for the candidates of one request: rows [1, ., d + T] and [M, ., d + T] -> logits [M, T]."""
        request_embeddings, request_first = self._split_request(request, history)
        embeddings, first = self.table.split(candidate)
        hidden = self.backbone.of_one_request(embeddings, self.backbone.request(request_embeddings))
        logits: Tensor = self.head(hidden) + (first + request_first)
        return logits

    def represent(
        self, request: Tensor, candidate: Tensor, owner: Tensor, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The backbone's output [M, width], which heads read, and the first-order part of the logits [M, T]."""
        request_embeddings, request_first = self._split_request(request, history)
        embeddings, first = self.table.split(candidate)
        state = self.backbone.request(request_embeddings)
        gathered = tuple(torch.index_select(part, 0, owner) for part in state)
        first_order = first + torch.index_select(request_first, 0, owner)
        return self.backbone.candidate(embeddings, gathered), first_order

    def _split_request(self, request: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """The request's embeddings, those of its history behind those of its features, and its first-order terms."""
        embeddings, first = self.table.split(request)
        if (self.history is None) != (history is None):
            raise ModelError(f"history: {'missing' if self.history else 'given to a student that reads none'}")
        if self.history is not None:
            embeddings = torch.cat([embeddings, self.history(history)], 1)
        return embeddings, first

    def start_at(self, rate: Tensor) -> None:
        """Let the untrained head answer a base rate, float32 [T]."""
        set_base_rate(self.head, rate)
