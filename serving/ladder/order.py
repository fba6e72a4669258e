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
    expected = bids * probability[:, 0]
    index = np.argsort(-expected, kind="stable")
    return Order(index, expected[index])
