"""A rank request in the shape that the stages work on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.admission.priority import Priority
from serving.catalog import Vertical


@dataclass(frozen=True)
class RankQuery:
    """One checked request.

    Attributes:
        request_id: the caller's name for it.
        vertical: what is asked.
        inputs: the model's inputs by tensor name: int64 or float32, [1, w] for `request_*`, [N, w] for `candidate_*`.
        ads: int64 [N], the candidates' keys.
        bids: float64 [N], finite and >= 0.
        priority: whose share of the capacity it may use.
    """

    request_id: str
    vertical: Vertical
    inputs: Mapping[str, NDArray[np.int64] | NDArray[np.float32]]
    ads: NDArray[np.int64]
    bids: NDArray[np.float64]
    priority: Priority = Priority.LIVE

    def __len__(self) -> int:
        """How many candidates there are."""
        return len(self.ads)
