"""Encoding by the definition, value by value: of a few rows, quicker than calls of numpy are."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exfm.features.columns import order_of
from exfm.features.schema import Feature
from exfm.features.values import MISSING, key_of, seed_of, splitmix64_one

_WORD = 2**64 - 1
_MISSING = int(MISSING)


class RowByRow:
    """Gives what `SidesEncoder` gives, and takes the same."""

    def __init__(
        self,
        ids: Sequence[Feature],
        numbers: Sequence[Feature],
        starts: Mapping[str, int],
        places: Mapping[str, int],
    ) -> None:
        """Prepare the look-ups.

        Args:
            ids, numbers: the columns.
            starts: each feature's first row of the table.
            places: each feature's column of the result.
        """
        self._row_of = [_row_of(feature, starts[feature.name]) for feature in ids]
        self._row_zero = [starts[feature.name] for feature in ids]
        cuts = [np.array(feature.boundaries, np.float32).tolist() for feature in numbers]
        self._cuts = [(cut, starts[feature.name]) for cut, feature in zip(cuts, numbers, strict=True)]
        index = {feature.name: index for index, feature in enumerate((*ids, *numbers))}
        self._order = order_of([index[name] for name in sorted(index, key=places.__getitem__)])

    def encode(self, ids: NDArray[np.int64], numbers: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
        """Rows, int64 [N, F], and how many category values stand in no vocabulary."""
        rows, unknown = [], 0
        for values, amounts in zip(ids.tolist(), numbers.tolist(), strict=True):
            row = [row_of(value) for row_of, value in zip(self._row_of, values, strict=True)]
            if None in row:
                unknown += row.count(None)
                row = [zero if known is None else known for known, zero in zip(row, self._row_zero, strict=True)]
            row += [start + bisect_right(cut, amount) for (cut, start), amount in zip(self._cuts, amounts, strict=True)]
            rows.append(row)
        made = np.array(rows, np.int64).reshape(len(rows), len(self._row_of) + len(self._cuts))
        return (made if self._order is None else made.take(self._order, axis=1)), unknown


def _row_of(feature: Feature, start: int) -> Callable[[int], int | None]:
    """The row of a raw value; None if it stands in no vocabulary."""
    if feature.kind == "category":
        codes = enumerate([key_of(value) for value in feature.vocabulary], start + 1)
        return {**{key: row for row, key in codes}, _MISSING: start}.get
    seed, modulus = int(seed_of(feature.name)), feature.buckets - 1

    def bucket(value: int) -> int:
        return start if value == _MISSING else start + 1 + splitmix64_one((value & _WORD) ^ seed) % modulus

    return bucket
