"""The stacked table's stand-in whose rows lie on all ranks (torchrec, row-wise); imports torchrec."""

import torch
from torch import Tensor, nn
from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from exfm.models.sharded.layout import EMBEDDING, FIRST_ORDER, PARTS, Layout, table_name


class ShardedTable(nn.Module):
    """Same shapes and steps as `exfm.models.embedding.EmbeddingTable` with `exfm.distill.optimizer.RowAdagrad`.

    The step happens inside the backward pass, so there is no gradient of the tables to see. Embeddings start as
    N(0, 0.02^2), drawn on each rank for its own rows, first-order weights at zero.

    Attributes:
        examples: in the mean of the next loss; to be set before its forward pass.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout, self.dimension = layout, layout.dimension
        self.examples = 1
        self._keys = [str(place) for place in range(len(layout.rows))]
        self.embedding, self.first_order = (_collection(layout, part, self._keys) for part in PARTS)
        self.starts: Tensor
        self.counts: Tensor
        self.register_buffer("starts", layout.starts, persistent=False)
        self.register_buffer("counts", torch.tensor(layout.rows), persistent=False)

    def learn_with(self, rate: float, first_order_rates: list[float], epsilon: float = 1e-6) -> None:
        """Choose the step sizes: of embeddings, and of each feature's first-order weights; before it is sharded."""
        rates = {EMBEDDING: [rate] * len(self._keys), FIRST_ORDER: first_order_rates}
        for part in PARTS:
            # The mean over padded rows is too small by this; rate and epsilon make up for it, exactly.
            root = self.layout.shrinkage(part) ** 0.5
            for place, each in enumerate(rates[part]):
                weight = getattr(self, part).embeddings[table_name(part, place)].weight
                options = {"lr": each * root, "eps": epsilon * root}
                _apply_optimizer_in_backward(RowWiseAdagrad, [weight], options)

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [B >= 1, F] rows of the stacked table -> float32 [B, F, dimension + tasks].

        A collective: all ranks must call it. `IndexError` if a row is outside its feature's range.
        """
        own = rows - self.starts
        if bool(((own < 0) | (own >= self.counts)).any()):
            raise IndexError("a table row is outside its feature's range")
        asked = KeyedJaggedTensor(
            keys=self._keys,
            values=own.t().reshape(-1),
            lengths=torch.ones(own.numel(), dtype=torch.int64, device=own.device),
        )
        parts = [self._gathered(part, asked) for part in PARTS]
        made = torch.cat(parts, 2)
        if made.requires_grad:
            examples = float(self.examples)
            made.register_hook(lambda gradient: gradient * examples)  # type: ignore[no-untyped-call]
        return made

    def split(self, gathered: Tensor) -> tuple[Tensor, Tensor]:
        """See `EmbeddingTable.split`."""
        return gathered[..., : self.dimension], gathered[..., self.dimension :].sum(1)

    def _gathered(self, part: str, asked: KeyedJaggedTensor) -> Tensor:
        found = getattr(self, part)(asked)
        return torch.stack([found[key].values() for key in self._keys], 1)[..., : self.layout.columns(part)]


def _collection(layout: Layout, part: str, keys: list[str]) -> EmbeddingCollection:
    @torch.no_grad()
    def begin(weight: Tensor) -> Tensor:
        weight.zero_()
        if part == EMBEDDING:
            weight[:, : layout.dimension].normal_(0.0, 0.02)
        return weight

    tables = [
        EmbeddingConfig(
            num_embeddings=rows,
            embedding_dim=layout.width(part),
            name=table_name(part, place),
            feature_names=[keys[place]],
            init_fn=begin,
        )
        for place, rows in enumerate(layout.rows)
    ]
    return EmbeddingCollection(tables=tables, device=torch.device("meta"))
