"""From raw feature values to rows of the stacked embedding table.

Training and the exported runner call the same `Encoder`, so they cannot disagree; numpy only, 1.26 and 2 alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import SIDES, Feature, Schema, Side
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
        self._columns = {side: [_Column(f, start_of[f.name]) for f in schema.side(side)] for side in SIDES}

    def encode(self, side: Side, ids: NDArray[np.int64], numbers: NDArray[np.float32]) -> Encoded:
        """Encode raw values.

        Args:
            side: whose features these are.
            ids: int64 [N, ids and categories of the side]; `MISSING` where a value is absent.
            numbers: float32 [N, numbers of the side], finite.
        """
        columns = self._columns[side]
        rows = np.empty((len(ids), len(columns)), np.int64)
        unknown = 0
        for index, column in enumerate(columns):
            if index < ids.shape[1]:
                rows[:, index], new = column.encode_ids(ids[:, index])
                unknown += new
            else:
                rows[:, index] = column.encode_numbers(numbers[:, index - ids.shape[1]])
        return Encoded(rows, unknown)


class _Column:
    """One feature's way from raw value to row."""

    def __init__(self, feature: Feature, start: int) -> None:
        self._start = start
        self._buckets = feature.buckets
        self._seed = seed_of(feature.name)
        keys = np.array([key_of(value) for value in feature.vocabulary], np.int64)
        order = np.argsort(keys)
        self._keys = keys[order]
        self._codes = (order + 1).astype(np.int64)
        self._boundaries = np.array(feature.boundaries, np.float32)

    def encode_ids(self, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        if self._buckets:
            hashed = splitmix64(values.view(np.uint64) ^ self._seed) % np.uint64(self._buckets - 1)
            codes = np.where(values == MISSING, 0, hashed.astype(np.int64) + 1)
            return codes + self._start, 0
        place = np.minimum(np.searchsorted(self._keys, values), len(self._keys) - 1)
        known = self._keys[place] == values
        unknown = int(np.count_nonzero(~known & (values != MISSING)))
        return np.where(known, self._codes[place], 0) + self._start, unknown

    def encode_numbers(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.searchsorted(self._boundaries, values, side="right").astype(np.int64) + self._start
