"""From ad keys to their rows, in a few memory accesses per key whatever the size of the catalogue."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Places = NDArray[np.int64] | NDArray[np.int32]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = 8
"""Keys that fill less than this part of their range are hashed."""
_SMALL = 1 << 12


class AdIndex(Protocol):
    """Where a key stands."""

    def places(self, ads: Keys) -> Places:
        """[N]: the place of each key int64 [N], or the number of known keys where it is none of them."""
        ...


def index_of(keys: Keys) -> AdIndex:
    """The index that suits keys int64 [A], each of them once."""
    span = int(keys.max()) - int(keys.min()) + 1 if len(keys) else 0
    return DenseIndex(keys) if span <= max(_SPREAD * len(keys), _SMALL) else HashIndex(keys)


class DenseIndex:
    """One cell per number between the least key and the greatest; for keys that were numbered through."""

    def __init__(self, keys: Keys) -> None:
        self._least = keys.min() if len(keys) else np.int64(0)
        span = int(keys.max()) - int(self._least) + 1 if len(keys) else 0
        # The last cell stands for everything outside.
        self._cells = np.full(span + 1, len(keys), np.int64)
        self._cells[keys - self._least] = np.arange(len(keys))

    def places(self, ads: Keys) -> Places:
        """See `AdIndex`."""
        # As unsigned numbers keys below the least one are beyond the last cell, too; wrapping round is meant.
        cells = (ads - self._least).view(np.uint64)
        outside = np.uint64(len(self._cells) - 1)
        return self._cells[np.minimum(cells, outside).view(np.int64)]


class HashIndex:
    """A table with open addressing, at most a quarter full; a key stands in the first free cell from its hash on."""

    def __init__(self, keys: Keys) -> None:
        bits = max(int(4 * len(keys) - 1).bit_length(), 1)
        self._shift, self._mask = np.uint64(64 - bits), np.int64((1 << bits) - 1)
        self._unknown = np.int32(len(keys))
        self._keys = np.zeros(1 << bits, np.int64)
        self._cells = np.full(1 << bits, len(keys), np.int32)
        waiting, cell = np.arange(len(keys), dtype=np.int32), self._hash(keys)
        while len(waiting):
            free = self._cells[cell] == self._unknown
            # Of several keys that want a cell, the one written last has it.
            self._cells[cell[free]] = waiting[free]
            lost = self._cells[cell] != waiting
            waiting, cell = waiting[lost], (cell[lost] + 1) & self._mask
        taken = self._cells != self._unknown
        self._keys[taken] = keys[self._cells[taken]]

    def places(self, ads: Keys) -> Places:
        """See `AdIndex`."""
        cell = self._hash(ads)
        found = self._cells[cell]
        # An empty cell says what is said of unknown keys, so it ends the search whatever it holds as its key.
        missed = np.flatnonzero((self._keys[cell] != ads) & (found != self._unknown))
        while len(missed):
            cell[missed] = (cell[missed] + 1) & self._mask
            found[missed] = self._cells[cell[missed]]
            missed = missed[(self._keys[cell[missed]] != ads[missed]) & (found[missed] != self._unknown)]
        return found

    def _hash(self, keys: Keys) -> NDArray[np.int64]:
        """Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): the product's upper bits."""
        hashed: NDArray[np.int64] = ((keys.view(np.uint64) * _MULTIPLIER) >> self._shift).view(np.int64)
        return hashed
