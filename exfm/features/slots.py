"""Where each value of a category stands in a table of its own: found by one multiplication, without a search."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import Feature
from exfm.features.values import MISSING, key_of, splitmix64_one

MOST_BITS = 16
"""Of a slot's number: such a table takes 1 MiB."""
MOST_VALUES = 2000
"""Of a vocabulary: for more it is in vain to look for multipliers."""
TRIES = 32
"""Multipliers per size of the table."""


@dataclass(frozen=True)
class Slots:
    """A value's slot is the upper bits of its product, modulo 2**64, with the multiplier; no two known ones share one.

    The slot holds the value itself, so whoever compares knows. `MISSING` is known, with code 0.

    Attributes:
        multiplier: odd.
        shift: 64 less the bits of a slot's number.
        keys: int64 [2**bits], the values; `MISSING` in free slots.
        codes: int64 [2**bits], their places in the vocabulary, from 1.
    """

    multiplier: int
    shift: int
    keys: NDArray[np.int64]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, feature: Feature) -> "Slots | None":
        """The smallest that were found; None for a vocabulary that is too large."""
        known = np.array([MISSING, *(key_of(value) for value in feature.vocabulary)], np.int64)
        if len(known) > MOST_VALUES:
            return None
        for bits in range((len(known) - 1).bit_length(), MOST_BITS + 1):
            for attempt in range(TRIES):
                multiplier, shift = splitmix64_one(attempt) | 1, 64 - bits
                places = (known.view(np.uint64) * np.uint64(multiplier)) >> np.uint64(shift)
                if len(set(places.tolist())) == len(known):
                    keys, codes = np.full(2**bits, MISSING), np.zeros(2**bits, np.int64)
                    keys[places], codes[places] = known, np.arange(len(known))
                    return cls(multiplier, shift, keys, codes)
        return None
