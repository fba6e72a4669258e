"""Tier `prior`: a calibrated probability per ad, held in process and ready at any time."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.ladder.index import AdIndex, index_of


class PriorSource(Protocol):
    """What the ladder asks for the prior, whichever is the latest."""

    def lookup(self, ads: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [N, T] for int64 [N] ad keys."""
        ...


@dataclass(frozen=True)
class Prior:
    """What is known of each ad without its user.

    Attributes:
        ads: int64 [A], the known ads' keys, strictly increasing.
        probability: float32 [A, T], per task.
        default: float32 [T], for every other ad.
    """

    ads: NDArray[np.int64]
    probability: NDArray[np.float32]
    default: NDArray[np.float32]
    _index: AdIndex = field(init=False, repr=False, compare=False)
    _rows: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check shapes and values (`ValueError` says what is wrong), and make ready for quick look-ups."""
        if self.probability.shape != (len(self.ads), len(self.default)):
            raise ValueError(f"probability is {self.probability.shape}, not {(len(self.ads), len(self.default))}")
        if np.any(np.diff(self.ads) <= 0):
            raise ValueError("ad keys must increase strictly")
        for values in (self.probability, self.default):
            if not np.all((values >= 0) & (values <= 1)):
                raise ValueError("probabilities must lie in [0, 1]")

        object.__setattr__(self, "_index", index_of(self.ads))
        object.__setattr__(self, "_rows", np.concatenate([self.probability, self.default[None]]))

    def lookup(self, ads: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [N, T] for int64 [N] ad keys."""
        return self._rows.take(self._index.places(ads), 0)
