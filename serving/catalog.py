"""The catalog: what this server offers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import SIDES, Schema
from exfm.features.signature import Block, Tensor, blocks_of, tensors_of
from serving.errors import UnknownVerticalError
from serving.ladder.prior import Prior


@dataclass(frozen=True)
class Golden:
    """A known request and its known answer.

    Attributes:
        inputs: by tensor name, [1, w] or [N, w].
        probability: float32 [N, T].
        tolerance: the largest difference per probability that still counts as the same answer.
    """

    inputs: Mapping[str, NDArray[Any]]
    probability: NDArray[np.float32]
    tolerance: float


@dataclass(frozen=True)
class Batching:
    """How the frontend forms batches for a model.

    Attributes:
        calls: the most that may be outstanding at a backend: one fewer than the model has instances.
        most: the most requests in a call.
    """

    calls: int
    most: int


@dataclass(frozen=True)
class Vertical:
    """One published version of a vertical's model.

    Attributes:
        name: also the model's name in Triton.
        version: the version that requests are pinned to.
        schema: the vertical's own schema; its digest is what the loaded model must carry.
        budget_s: the longest a request may take.
        max_candidates: the most ads in one request.
        prior: the lowest tier.
        golden: for the canary.
        profile: mean seconds of a call in process by candidates, as the export measured it; may be empty.
        learned_until_ms: the last impression that prior and model have learned, milliseconds since the epoch.
        written_s: when the version was published, seconds since the epoch.
        lite: the smaller model of tier `lite`, for the same tensors and tasks; None: there is none.
        batching: of the batches that the model takes whole; None: it takes requests, and its server joins them.
    """

    name: str
    version: int
    schema: Schema
    budget_s: float
    max_candidates: int
    prior: Prior
    golden: Golden
    profile: Mapping[int, float] = field(default_factory=dict)
    learned_until_ms: int = 0
    written_s: float = 0.0
    lite: "Vertical | None" = None
    batching: Batching | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The predicted outcomes, in the order of the scores; the first one makes the expected value."""
        return self.schema.tasks

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The model's inputs."""
        return tensors_of(self.schema)

    @cached_property
    def user_column(self) -> int | None:
        """Which column of `request_ids` is the user's key: the id that reads the log's user column; None if none."""
        features = blocks_of(self.schema, "user")[0].features
        found = [place for place, f in enumerate(features) if f.kind == "id" and f.source == self.schema.columns.user]
        return found[0] if found else None

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The request's feature blocks, those of width 0 included."""
        return tuple(block for side in SIDES for block in blocks_of(self.schema, side))


class Catalog(Mapping[str, Vertical]):
    """The served verticals by name."""

    def __init__(self, verticals: Mapping[str, Vertical]) -> None:
        self._verticals = dict(verticals)

    def find(self, name: str) -> Vertical:
        """The vertical of that name; `UnknownVerticalError` if this server has none."""
        vertical = self._verticals.get(name)
        if vertical is None:
            raise UnknownVerticalError(f"no vertical {name[:64]!r} here; served: {', '.join(sorted(self._verticals))}")
        return vertical

    @property
    def models(self) -> Mapping[str, Vertical]:
        """All models that are asked, by their name in Triton: the verticals' own and the lite ones."""
        lite = [vertical.lite for vertical in self._verticals.values() if vertical.lite]
        return {**self._verticals, **{model.name: model for model in lite}}

    def __getitem__(self, name: str) -> Vertical:
        return self._verticals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._verticals)

    def __len__(self) -> int:
        return len(self._verticals)
