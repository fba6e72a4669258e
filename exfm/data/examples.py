"""Served impressions with their outcomes, as arrays: what training and every measurement read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import SIDES, Schema
from exfm.features.signature import blocks_of

Blocks = dict[str, NDArray[Any]]
"""Raw feature values by block name (`user_ids`, `user_numbers`, ...): int64 or float32, [N, width] each."""
BLOCK_NAMES: tuple[str, ...] = tuple(f"{side}_{kind}" for side in SIDES for kind in ("ids", "numbers"))


@dataclass(frozen=True)
class Examples:
    """N impressions; a source gives them in time order.

    Attributes:
        time_ms: int64 [N], milliseconds since the epoch, UTC.
        user: int64 [N], key of the user.
        ad: int64 [N], key of the ad.
        blocks: all six blocks of the schema, some possibly of width 0.
        labels: float32 [N] per task, 0 or 1; NaN where the row belongs to no vertical that has the task.
        bid: float32 [N], value of one positive outcome.
        truth: float32 [N] per task, the true probability where it is known (simulator), NaN as in `labels`.
        delay_s: float32 [N] per task, seconds from the impression to a positive outcome; NaN where there is none.
        signals: float32 [N] by name, outcomes that are not 0/1 (such as the share watched); never inputs.
        annotations: float32 [N] per task, what a teacher said that had learned none of it; NaN where none did.
    """

    time_ms: NDArray[np.int64]
    user: NDArray[np.int64]
    ad: NDArray[np.int64]
    blocks: Blocks
    labels: dict[str, NDArray[np.float32]]
    bid: NDArray[np.float32]
    truth: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    delay_s: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    signals: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    annotations: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.blocks) != set(BLOCK_NAMES):
            raise ValueError(f"blocks must be {', '.join(BLOCK_NAMES)}, got {', '.join(sorted(self.blocks))}")
        for name, value in vars(self).items():
            for key, array in value.items() if isinstance(value, dict) else [("", value)]:
                if len(array) != len(self.time_ms):
                    raise ValueError(f"{name} {key}: {len(array)} rows where time_ms has {len(self.time_ms)}")

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, index: NDArray[Any]) -> "Examples":
        """The rows at `index` (int64 positions or bool mask), in that order; copies."""
        return self._each(lambda array: array[index])

    def slice(self, start: int, stop: int) -> "Examples":
        """Rows start to stop, as views."""
        return self._each(lambda array: array[start:stop])

    def in_time_order(self) -> "Examples":
        """The rows by time, rows of one time in the order they have; itself if that is its order."""
        if (self.time_ms[1:] >= self.time_ms[:-1]).all():
            return self
        return self.take(np.argsort(self.time_ms, kind="stable"))

    def project(self, schema: Schema, sub: Schema) -> "Examples":
        """The same rows with only the features of `sub`; see `project`."""
        return replace(self, blocks=project(self.blocks, schema, sub))

    def _each(self, change: Any) -> "Examples":
        def apply(value: Any) -> Any:
            return {key: change(array) for key, array in value.items()} if isinstance(value, dict) else change(value)

        return Examples(**{item.name: apply(getattr(self, item.name)) for item in fields(self)})


def concat(parts: Sequence[Examples]) -> Examples:
    """The rows of all parts, one after the other; all must have the same blocks, tasks and widths."""
    if len(parts) == 1:
        return parts[0]

    def join(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: np.concatenate([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values)

    return Examples(**{item.name: join([getattr(part, item.name) for part in parts]) for item in fields(Examples)})


def project(blocks: Mapping[str, NDArray[Any]], schema: Schema, sub: Schema) -> Blocks:
    """Pick the columns of a vertical's schema out of blocks made with the full schema.

    Args:
        blocks: any of the six blocks, columns as `schema` orders them.
        schema: the schema that the blocks were made with.
        sub: `schema.for_vertical(name)`, or any schema over some of the same features.

    Returns:
        The given blocks with the columns of `sub`, in its order.

    Raises:
        KeyError: `sub` has a feature that `schema` lacks.
    """
    picked: Blocks = {}
    for side in SIDES:
        for whole, part in zip(blocks_of(schema, side), blocks_of(sub, side), strict=True):
            if whole.name in blocks:
                place = {feature.name: index for index, feature in enumerate(whole.features)}
                picked[whole.name] = blocks[whole.name][:, [place[feature.name] for feature in part.features]]
    return picked


@dataclass(frozen=True)
class Catalogue:
    """The users or ads that a source knows, each once.

    Attributes:
        key: int64 [A], strictly increasing.
        blocks: the two blocks of the side (`ad_ids`, `ad_numbers` or `user_ids`, `user_numbers`), [A, width] each.
    """

    key: NDArray[np.int64]
    blocks: Blocks

    def __len__(self) -> int:
        return len(self.key)

    def project(self, schema: Schema, sub: Schema) -> "Catalogue":
        """The same users or ads with only the features of `sub`; see `project`."""
        return replace(self, blocks=project(self.blocks, schema, sub))

    @classmethod
    def of(cls, key: NDArray[np.int64], blocks: Blocks) -> "Catalogue":
        """From rows in any order; of several rows with one key the last one stands."""
        unique, first_from_end = np.unique(key[::-1], return_index=True)
        rows = len(key) - 1 - first_from_end
        return cls(unique, {name: block[rows] for name, block in blocks.items()})
