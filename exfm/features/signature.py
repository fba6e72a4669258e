"""The tensors that a schema implies: how a request travels from the ad server to the model, byte for byte."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from exfm.features.schema import Feature, Schema, Side

BlockKind = Literal["ids", "numbers"]
DTYPES: dict[BlockKind, np.dtype[np.int64] | np.dtype[np.float32]] = {
    "ids": np.dtype("<i8"),
    "numbers": np.dtype("<f4"),
}
REQUEST_SIDES: tuple[Side, ...] = ("user", "context")
CANDIDATE_SIDES: tuple[Side, ...] = ("ad",)
HISTORY = "request_history"
PROBABILITY = "probability"
UNKNOWN = "unknown"
OWNER = "owner"
"""Of a jagged batch: int64 [sum N], which of its requests each candidate belongs to, ascending."""


@dataclass(frozen=True)
class Block:
    """A dense little-endian array of one side's values, `width` per row.

    Attributes:
        side: user, context (one row per request) or ad (one row per candidate).
        kind: `ids` (int64: ids and categories) or `numbers` (float32).
        features: the columns, in order.
    """

    side: Side
    kind: BlockKind
    features: tuple[Feature, ...]

    @property
    def name(self) -> str:
        return f"{self.side}_{self.kind}"

    @cached_property
    def width(self) -> int:
        return len(self.features)

    @property
    def dtype(self) -> DTypeLike:
        return DTYPES[self.kind]

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * DTYPES[self.kind].itemsize


@dataclass(frozen=True)
class Tensor:
    """One input of the served model: the blocks of some sides side by side.

    `request_*` tensors are [1, width] per request (user, then context); `candidate_*` tensors are [N, width].
    `request_history` has no blocks: callers don't send it, the frontend fills it from the online store.

    Attributes:
        name: of the model's input.
        kind: of its values.
        blocks: what it is made of, in order.
        extra: columns that are in no block.
    """

    name: str
    kind: BlockKind
    blocks: tuple[Block, ...]
    extra: int = 0

    @cached_property
    def width(self) -> int:
        return sum(block.width for block in self.blocks) + self.extra

    @cached_property
    def per_candidate(self) -> bool:
        """Whether it has a row per candidate; else it has one per request."""
        return self.name.startswith("candidate")


def blocks_of(schema: Schema, side: Side) -> tuple[Block, Block]:
    """The side's `ids` and `numbers` blocks, either possibly of width 0."""
    features = schema.side(side)
    ids = tuple(feature for feature in features if feature.kind != "number")
    return Block(side, "ids", ids), Block(side, "numbers", features[len(ids) :])


def tensors_of(schema: Schema) -> tuple[Tensor, ...]:
    """The served model's inputs, those of width 0 left out."""
    groups: tuple[tuple[str, tuple[Side, ...]], ...] = (("request", REQUEST_SIDES), ("candidate", CANDIDATE_SIDES))
    made = []
    for label, sides in groups:
        pairs = [blocks_of(schema, side) for side in sides]
        made.append(Tensor(f"{label}_ids", "ids", tuple(ids for ids, _ in pairs)))
        made.append(Tensor(f"{label}_numbers", "numbers", tuple(numbers for _, numbers in pairs)))
        if label == "request" and schema.history:
            made.append(Tensor(HISTORY, "numbers", (), schema.history.width))
    return tuple(tensor for tensor in made if tensor.width)
