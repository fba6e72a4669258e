"""The order of a ranking."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Order:
    """Candidates by what they are worth.

    Attributes:
        index: int64 [N], the candidates' places in the request, best first.
        expected: float64 [N], bid times the probability of the first task, in that order.
    """

    index: NDArray[np.int64]
    expected: NDArray[np.float64]


def order(bids: NDArray[np.float64], probability: NDArray[np.float32]) -> Order:
    """Order candidates by expected value, ties as in the request.

    Args:
        bids: float64 [N], finite and >= 0.
        probability: float32 [N, T], finite.
    """
    # What is worth nothing shall be worth the same zero: minus zero has other bits.
    expected = bids * probability[:, 0] + 0.0
    index = descending(expected)
    return Order(index, expected[index])


def descending(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 [N]: places of values [N], finite and none below plus zero, greatest first, equal ones as they stand.

    The bits of such numbers sort as integers do. With the place written over the last of them, one plain sort, which
    processors have wide instructions for, orders values and equal ones' places together. Values that differ in no
    other bits than those may come out wrong; that is seen, and they are sorted the long way.
    """
    mask = np.int64((1 << len(values).bit_length()) - 1)
    keys = (~values.view(np.int64) & ~mask) | np.arange(len(values))
    keys.sort()
    index: NDArray[np.int64] = keys & mask
    ordered = values[index]
    if (ordered[1:] > ordered[:-1]).any():
        return np.argsort(-values, kind="stable")
    return index
