"""A user's own model, by protocol: a module of torch's, a schema, weights and a golden batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class OwnModel(Protocol):
    """What the factory returns: a `torch.nn.Module` that is called like this. `torch.onnx.export` must take it, with B
    and M left open: no Python decision on them, no loop over requests."""

    def forward(
        self, request_rows: Tensor, candidate_rows: Tensor, owner: Tensor, history: Tensor | None = None
    ) -> Tensor:
        """Score the candidates of several requests.

        Rows of one table over all features, `schema.rows` of them: features in the order of `schema.ordered`, each
        with its own range. The exporter encodes raw values into them, by the function that serving runs.

        Args:
            request_rows: int64 [B, user + context features].
            candidate_rows: int64 [M, ad features].
            owner: int64 [M], which request each candidate belongs to, in [0, B), ascending.
            history: float32 [B, L * (d + 2)]; left out of the call where the schema has no history.

        Returns:
            Logits, float32 [M, T], tasks in the schema's order; what is served is their sigmoid.
        """
        ...


class SplitModel(OwnModel, Protocol):
    """A model that also offers these may be served by the engines that keep the table beside the graph."""

    table: Any
    """Has `weight`, float [schema.rows, width]: all that the model looks up by row."""

    def score_one_request(self, request: Tensor, candidate: Tensor, history: Tensor | None = None) -> Tensor:
        """`forward` for one request after the lookup, without touching `table`.

        Args:
            request: float32 [1, user + context features, width], gathered rows.
            candidate: float32 [M, ad features, width].
            history: float32 [1, L * (d + 2)]; left out of the call where the schema has no history.

        Returns:
            Logits, float32 [M, T].
        """
        ...


@dataclass(frozen=True)
class OwnFiles:
    """What the user gives.

    Attributes:
        model: `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`; the factory takes the vertical's schema.
        weights: a state dict, as `torch.save(module.state_dict(), path)` writes it.
        schema: TOML or JSON.
        golden: see `exporter.golden_batch.GoldenBatch`.
        vertical: which of the schema's; "" if it has one only.
        quality: JSON with `ne` and `auc` of the first task, further tasks' under `tasks`; None: computed.
        prior: `.npz` with `ad` int64 [A], `probability` float32 [A, T] and `default` float32 [T]; None: the golden
            batch's mean for every ad.
    """

    model: str
    weights: Path
    schema: Path
    golden: Path
    vertical: str = ""
    quality: Path | None = None
    prior: Path | None = None

    def __str__(self) -> str:
        return self.model
