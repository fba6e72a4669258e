"""Tier `prior`: a calibrated probability per ad, held in process and ready at any time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

    def __post_init__(self) -> None:
        """Check shapes and values; `ValueError` says what is wrong."""
        if self.probability.shape != (len(self.ads), len(self.default)):
            raise ValueError(f"probability is {self.probability.shape}, not {(len(self.ads), len(self.default))}")
        if np.any(np.diff(self.ads) <= 0):
            raise ValueError("ad keys must increase strictly")
        for values in (self.probability, self.default):
            if not np.all((values >= 0) & (values <= 1)):
                raise ValueError("probabilities must lie in [0, 1]")

    def lookup(self, ads: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [N, T] for int64 [N] ad keys."""
        if not len(self.ads):
            return np.tile(self.default, (len(ads), 1))
        place = np.minimum(np.searchsorted(self.ads, ads), len(self.ads) - 1)
        known = self.ads[place] == ads
        return np.where(known[:, None], self.probability[place], self.default)
