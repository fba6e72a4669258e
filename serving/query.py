"""A rank request in the shape that the stages work on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.encoding import MISSING
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
        history: the packed history that `request_history` was made of; empty for none.
        asked_ms: the instant that its ages were counted from, milliseconds since the epoch; 0: no history was asked.
    """

    request_id: str
    vertical: Vertical
    inputs: Mapping[str, NDArray[np.int64] | NDArray[np.float32]]
    ads: NDArray[np.int64]
    bids: NDArray[np.float64]
    priority: Priority = Priority.LIVE
    history: bytes = b""
    asked_ms: int = 0

    @property
    def user(self) -> int:
        """The user's key, or the one that stands for a missing value where no feature is the user's key."""
        column = self.vertical.user_column
        return int(MISSING) if column is None else int(self.inputs["request_ids"][0, column])

    def __len__(self) -> int:
        """How many candidates there are."""
        return len(self.ads)
