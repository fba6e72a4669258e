"""From raw feature values to rows of the stacked embedding table.

Training and the exported runner call the same `Encoder`, so they cannot disagree; numpy only, 1.26 and 2 alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import SIDES, Feature, Schema, SchemaError, Side
from exfm.features.signature import blocks_of
from exfm.features.values import key_of, seed_of, splitmix64

MISSING = np.int64(np.iinfo(np.int64).min)
"""The raw value of an id or category that is not known for this user, context or ad."""


@dataclass(frozen=True)
class Encoded:
    """Rows of one side.

    Attributes:
        rows: int64 [N, F], each in [0, schema.rows).
        unknown: how many category values were given but stand in no vocabulary (they share row 0 of their feature).
    """

    rows: NDArray[np.int64]
    unknown: int


class Encoder:
    """Encodes one side's blocks at a time; columns follow `schema.side(side)`."""

    def __init__(self, schema: Schema) -> None:
        starts = np.cumsum([0, *(feature.rows for feature in schema.ordered)])
        start_of = {f.name: int(start) for f, start in zip(schema.ordered, starts, strict=False)}
        self._ids: dict[Side, _IdColumns] = {}
        self._numbers: dict[Side, list[tuple[NDArray[np.float32], int]]] = {}
        for side in SIDES:
            ids, numbers = blocks_of(schema, side)
            self._ids[side] = _IdColumns(ids.features, [start_of[f.name] for f in ids.features])
            self._numbers[side] = [(np.array(f.boundaries, np.float32), start_of[f.name]) for f in numbers.features]

    def encode(self, side: Side, ids: NDArray[np.int64], numbers: NDArray[np.float32]) -> Encoded:
        """Encode raw values.

        Args:
            side: whose features these are.
            ids: int64 [N, ids and categories of the side]; `MISSING` where a value is absent.
            numbers: float32 [N, numbers of the side], finite.
        """
        rows = np.empty((len(ids), ids.shape[1] + numbers.shape[1]), np.int64)
        rows[:, : ids.shape[1]], unknown = self._ids[side].encode(ids)
        for index, (boundaries, start) in enumerate(self._numbers[side]):
            rows[:, ids.shape[1] + index] = np.searchsorted(boundaries, numbers[:, index], side="right") + start
        return Encoded(rows, unknown)


class _IdColumns:
    """All ids and categories of a side at once: for the single row of a request, calls cost more than their work.

    Each value is hashed with its feature's seed. An id's bucket is the hash's remainder. A category's values of all
    features stand hashed in one sorted list; the hash is one to one within a feature, and a hit counts only if it is of
    the same feature, so the look-up is exact.
    """

    def __init__(self, features: Sequence[Feature], starts: Sequence[int]) -> None:
        self._starts = np.array(starts, np.int64)
        self._seeds = np.array([seed_of(feature.name) for feature in features], np.uint64)
        self._hashed = np.array([feature.kind == "id" for feature in features], bool)
        self._modulus = np.array([max(feature.buckets - 1, 1) for feature in features], np.uint64)
        values = [
            (key, place, code)
            for place, feature in enumerate(features)
            for code, key in enumerate([key_of(value) for value in feature.vocabulary], 1)
        ]
        keys, owners, codes = np.array(values, np.int64).reshape(-1, 3).T
        mixed = splitmix64(np.ascontiguousarray(keys).view(np.uint64) ^ self._seeds[owners])
        order = np.argsort(mixed)
        self._known, self._owners, self._codes = mixed[order], owners[order], codes[order]
        if (self._known[1:] == self._known[:-1]).any():
            raise SchemaError("two category values of different features hash alike: rename one of the features")

    def encode(self, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Rows, int64 [N, F], and how many values stand in no vocabulary."""
        mixed = splitmix64(values.view(np.uint64) ^ self._seeds)
        buckets = (mixed % self._modulus).astype(np.int64) + 1
        absent = values == MISSING
        if not len(self._known):
            return np.where(absent, 0, buckets) + self._starts, 0
        place = np.minimum(np.searchsorted(self._known, mixed), len(self._known) - 1)
        known = (self._known[place] == mixed) & (self._owners[place] == np.arange(values.shape[1]))
        codes = np.where(self._hashed, buckets, np.where(known, self._codes[place], 0))
        unknown = int(np.count_nonzero(~(self._hashed | known | absent)))
        return np.where(absent, 0, codes) + self._starts, unknown
