"""The value that a row has before it is ever learned: a hash of where it is, so that nothing has to be stored."""

import numpy as np
from numpy.typing import NDArray

from exfm.features.values import splitmix64

SPREAD = 0.02
"""Standard deviation, as of `exfm.models.embedding.EmbeddingTable`."""
_HIGH = np.uint64(40)


def initial(rows: NDArray[np.int64], dimension: int, seed: int) -> NDArray[np.float32]:
    """float32 [N, dimension] of int64 [N] rows: uniform with mean 0 and standard deviation `SPREAD`."""
    columns: NDArray[np.uint64] = np.arange(dimension, dtype=np.uint64)
    mixed = splitmix64(splitmix64(splitmix64(rows.astype(np.uint64)) ^ np.uint64(seed))[:, None] + columns)
    half = np.float32(SPREAD * 3**0.5)
    return (mixed >> _HIGH).astype(np.float32) * (half / np.float32(1 << 23)) - half
