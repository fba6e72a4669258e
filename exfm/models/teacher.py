"""The teacher: Wukong over every feature and over counters of the past, one head per task; never served."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from exfm.features.schema import Schema
from exfm.models.compressor import Compressor
from exfm.models.dense import mlp, set_base_rate
from exfm.models.embedding import EmbeddingTable
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.wukong import wukong


class Standardizer(nn.Module):
    """Running mean and variance per column, over the rows shown to `update` so far; no gradients.

    Until the first `update` values pass unchanged. The output is clipped to +-4 deviations.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seen: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(width, dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        scaled = (values - self.mean.float()) / (self.variance.sqrt().float() + 1e-3)
        return scaled.clamp(-4.0, 4.0)

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Merge rows, float32 [n >= 1, width], by the parallel variance formula (Chan, Golub, LeVeque 1983)."""
        fresh, count = values.double(), float(len(values))
        total = self.seen + count
        shift = fresh.mean(0) - self.mean
        spread = self.variance * self.seen + fresh.var(0, correction=0) * count + shift**2 * self.seen * count / total
        self.mean += shift * count / total
        self.variance.copy_(spread / total)
        self.seen.copy_(total)


class Teacher(nn.Module):
    """Tokens are all features' embeddings (with dropout) and `counter_tokens` made from the counters.

    Args:
        schema: the whole schema.
        tasks: outcomes to predict, one head and one first-order weight each.
        counters: how many counter columns come in; at least 1.
        layers, fmb, lcb, rank: depth, output tokens of the two blocks, and rank of the Wukong layers.
        embedding: width of the compressed embedding that it gives of an example; 0: none.
        make_table: of rows, dimension and tasks.
    """

    def __init__(
        self,
        schema: Schema,
        tasks: tuple[str, ...],
        counters: int,
        *,
        dimension: int = 16,
        layers: int = 2,
        fmb: int = 8,
        lcb: int = 8,
        rank: int = 12,
        hidden: int = 128,
        counter_tokens: int = 4,
        counter_hidden: int = 64,
        dropout: float = 0.1,
        embedding: int = 0,
        make_table: Callable[[int, int, int], EmbeddingTable | LazyEmbedding] = EmbeddingTable,
    ) -> None:
        super().__init__()
        self._dimension, self._tokens = dimension, counter_tokens
        self.table = make_table(schema.rows, dimension, len(tasks))
        self.standardizer = Standardizer(counters)
        self.counter_tokens = mlp(counters, counter_hidden, counter_tokens * dimension)
        self.counter_skip = nn.Linear(counters, counter_hidden)
        tokens = len(schema.ordered) + counter_tokens
        self.stack = wukong(tokens, dimension, layers=layers, fmb=fmb, lcb=lcb, rank=rank, hidden=hidden)
        self.dropout = nn.Dropout(dropout)
        width = (fmb + lcb) * dimension + counter_hidden
        self.heads = nn.ModuleList(mlp(width, hidden, 1) for _ in tasks)
        # Last, so that the other weights start alike with and without it.
        self.compressor = Compressor(width, embedding) if embedding else None

    def forward(self, rows: Tensor, counters: Tensor) -> Tensor:
        """Logits float32 [B, tasks] of int64 [B, features] table rows and float32 [B, counters] raw counters."""
        return self.predict(*self.represent(rows, counters))

    def represent(self, rows: Tensor, counters: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden activations [B, width] that heads and compressor read, and the first-order logits [B, tasks]."""
        embeddings, first_order = self.table.split(self.table(rows))
        past = self.standardizer(counters)
        made = self.counter_tokens(past).reshape(-1, self._tokens, self._dimension)
        tokens = self.stack(torch.cat([self.dropout(embeddings), made], 1))
        wide = torch.cat([tokens.flatten(1), functional.relu(self.counter_skip(past))], 1)
        return self.dropout(wide), first_order

    def predict(self, hidden: Tensor, first_order: Tensor) -> Tensor:
        """Logits [B, tasks] of what `represent` gave."""
        logits: Tensor = torch.cat([head(hidden) for head in self.heads], 1) + first_order
        return logits

    def compression_loss(self, hidden: Tensor) -> Tensor:
        """What the compressor learns from; no gradient of it reaches anything else. Zero without a compressor."""
        return hidden.new_zeros(()) if self.compressor is None else self.compressor.loss(hidden)

    def start_at(self, rate: Tensor) -> None:
        """Let the untrained heads answer base rates, float32 [tasks]."""
        for head, each in zip(self.heads, rate, strict=True):
            assert isinstance(head, nn.Sequential)
            set_base_rate(head[-1], each[None])
