"""Raw values as 64-bit keys, and their hash: stable over machines, runs and numpy versions."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def key_of(value: int | str) -> int:
    """The int64 key of a raw value: an integer is its own key, a string its 8-byte BLAKE2b digest, little-endian."""
    if isinstance(value, str):
        return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)
    return int(value)


def seed_of(name: str) -> np.uint64:
    """A per-feature seed, so that one value hashes differently in different features."""
    return np.uint64(key_of(name) % 2**64)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), element by element; wraps modulo 2**64."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
