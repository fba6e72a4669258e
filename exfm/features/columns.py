"""How ids and categories become rows: one class per way, each for all columns that go it.

For the few values of a request, calls of numpy cost more than their work: there are few of them, over all columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from exfm.features.schema import Feature, SchemaError
from exfm.features.slots import Slots
from exfm.features.values import MISSING, key_of, seed_of, splitmix64

Ints = NDArray[np.int64]


class Columns(Protocol):
    """Ids or categories that become rows in the same way."""

    def fill(self, rows: Ints, values: Ints) -> int:
        """Make `rows` those of the stacked table of raw values [F, N]; returns how many stand in no vocabulary."""
        ...


class Hashed:
    """Ids: the bucket is the remainder of the value's hash with its feature's seed."""

    def __init__(self, features: Sequence[Feature], starts: Sequence[int]) -> None:
        self._seeds = _down([seed_of(feature.name) for feature in features], np.uint64)
        self._modulus = _down([feature.buckets - 1 for feature in features], np.uint64)
        self._starts = _down(starts, np.int64)
        self._firsts = self._starts + 1

    def fill(self, rows: Ints, values: Ints) -> int:
        """See `Columns`."""
        mixed = splitmix64(np.bitwise_xor(values.view(np.uint64), self._seeds))
        mixed %= self._modulus
        np.add(mixed.view(np.int64), self._firsts, out=rows)
        absent = values == MISSING
        if np.count_nonzero(absent):
            np.copyto(rows, self._starts, where=absent)
        return 0


class Slotted:
    """Categories that have `Slots`; those of all columns stand in one table, so the look-up is one for all."""

    def __init__(self, slots: Sequence[Slots], starts: Sequence[int]) -> None:
        ends = np.cumsum([0, *(len(column.keys) for column in slots)])
        self._offsets = _down(ends[:-1], np.uint64)
        self._multipliers = _down([column.multiplier for column in slots], np.uint64)
        self._shifts = _down([column.shift for column in slots], np.uint64)
        self._starts = _down(starts, np.int64)
        self._keys = np.concatenate([column.keys for column in slots])
        self._rows = np.concatenate([column.codes + start for column, start in zip(slots, starts, strict=True)])

    def fill(self, rows: Ints, values: Ints) -> int:
        """See `Columns`."""
        slots = np.multiply(values.view(np.uint64), self._multipliers)
        slots >>= self._shifts
        slots += self._offsets
        places = slots.view(np.int64)
        # All are in range; "clip" only because "raise" would fill a copy of `rows` first.
        self._rows.take(places, out=rows, mode="clip")
        known = self._keys.take(places) == values
        unknown = int(known.size - np.count_nonzero(known))
        if unknown:
            np.copyto(rows, self._starts, where=~known)
        return unknown


class Searched:
    """Categories without slots: the values of all columns, each xor its feature's seed, stand in one sorted list.

    That is one to one within a feature, and a hit counts only if it is of the same feature, so the look-up is exact.
    """

    def __init__(self, features: Sequence[Feature], starts: Sequence[int]) -> None:
        values = [
            (key, place, code)
            for place, feature in enumerate(features)
            for code, key in enumerate([key_of(value) for value in feature.vocabulary], 1)
        ]
        keys, owners, codes = np.array(values, np.int64).reshape(-1, 3).T
        self._starts = _down(starts, np.int64)
        self._seeds = _down([seed_of(feature.name) for feature in features], np.uint64)
        self._places = _down(range(len(features)), np.int64)
        mixed = np.ascontiguousarray(keys).view(np.uint64) ^ self._seeds[owners, 0]
        order = np.argsort(mixed)
        self._known, self._owners = mixed[order], owners[order]
        self._rows = (codes + self._starts[owners, 0])[order]
        if (self._known[1:] == self._known[:-1]).any():
            raise SchemaError("two category values of different features hash alike: rename one of the features")

    def fill(self, rows: Ints, values: Ints) -> int:
        """See `Columns`."""
        mixed = np.bitwise_xor(values.view(np.uint64), self._seeds)
        place = np.minimum(self._known.searchsorted(mixed), len(self._known) - 1)
        absent = values == MISSING
        known = (self._known.take(place) == mixed) & (self._owners.take(place) == self._places) & ~absent
        rows[...] = np.where(known, self._rows.take(place), self._starts)
        return int(known.size - np.count_nonzero(known | absent))


def columns_of(features: Sequence[Feature], starts: Mapping[str, int]) -> Iterator[tuple[list[str], Columns]]:
    """The ways that these ids and categories go, each with the names of those that go it.

    Args:
        features: of any number, also none.
        starts: each feature's first row of the table.
    """
    slots = {feature.name: Slots.of(feature) for feature in features if feature.kind == "category"}
    slotted = {name: found for name, found in slots.items() if found is not None}
    hashed = [feature for feature in features if feature.kind == "id"]
    searched = [feature for feature in features if feature.kind == "category" and feature.name not in slotted]
    if hashed:
        yield [f.name for f in hashed], Hashed(hashed, [starts[f.name] for f in hashed])
    if slotted:
        yield list(slotted), Slotted(list(slotted.values()), [starts[name] for name in slotted])
    if searched:
        yield [f.name for f in searched], Searched(searched, [starts[f.name] for f in searched])


def order_of(columns: Sequence[int]) -> NDArray[np.intp] | None:
    """To take these columns by; None if that would take all as they are."""
    return None if list(columns) == list(range(len(columns))) else np.array(columns, np.intp)


def _down(values: Sequence[int] | Sequence[np.uint64] | Ints, dtype: DTypeLike) -> NDArray[Any]:
    """[F, 1], to stand beside [F, N]."""
    return np.array(values, dtype)[:, None]
