"""Row-wise Adagrad for the stacked table, and the moving average of dense weights that predicts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from exfm.features.schema import Schema
from exfm.models.embedding import EmbeddingTable


class RowAdagrad:
    """One accumulator per row for the embedding and another for the first-order weights.

    A shared one would let the much larger first-order gradients starve the embedding. Only rows that a batch touched
    are read or written.

    Args:
        table: whose sparse gradients to consume.
        rate: step size of embeddings.
        first_order_rate: step size of first-order weights, a number or float32 [rows].
        epsilon: added to the root of the accumulator, in units of one example's gradient.
    """

    def __init__(
        self, table: EmbeddingTable, rate: float, first_order_rate: float | Tensor, epsilon: float = 1e-6
    ) -> None:
        self._table, self._epsilon = table, epsilon
        self._accumulated = torch.zeros(len(table.weight), 2)
        self._rates = torch.full_like(self._accumulated, rate)
        self._rates[:, 1] = first_order_rate

    @torch.no_grad()
    def step(self, examples: int) -> None:
        """Apply and clear the gradient of a mean loss over that many examples; does nothing if there is none."""
        weight = self._table.weight
        if weight.grad is None:
            return
        gradient = weight.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values() * float(examples)
        weight.grad = None
        parts = values[:, : self._table.dimension], values[:, self._table.dimension :]
        accumulated = self._accumulated[rows] + torch.stack([part.square().mean(1) for part in parts], 1)
        self._accumulated[rows] = accumulated
        scale = self._rates[rows] / (accumulated.sqrt() + self._epsilon)
        weight[rows] -= torch.cat([parts[0] * scale[:, :1], parts[1] * scale[:, 1:]], 1)


def first_order_rates(schema: Schema, rate: float, multipliers: Mapping[str, float]) -> Tensor:
    """float32 [schema.rows]: `rate`, times the feature's multiplier where one is given; unknown names are ignored."""
    parts = [torch.full((feature.rows,), rate * multipliers.get(feature.name, 1.0)) for feature in schema.ordered]
    return torch.cat(parts)


class MovingAverage:
    """Exponential moving average of the given parameters; `decay` is reached gradually, as (1 + n) / (10 + n)."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self._live = parameters
        self._average = [parameter.detach().clone() for parameter in parameters]
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values in."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._average, [parameter.data for parameter in self._live], 1 - decay)

    def carried(self) -> dict[str, Any]:
        """The average as it stands; `resume` takes it."""
        return {"average": self._average, "updates": self._updates}

    @torch.no_grad()
    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave."""
        torch._foreach_copy_(self._average, carried["average"])
        self._updates = int(carried["updates"])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, parameter in enumerate(self._live):
            parameter.data, self._average[index] = self._average[index], parameter.data
