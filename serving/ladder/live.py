"""The prior in use, which may be exchanged for a fresher one at any time."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.ladder.prior import Prior


@dataclass(frozen=True)
class Edition:
    """A prior and which one it is.

    Attributes:
        prior: the estimates.
        version: counts the refreshes; 0: the one that was published with the model.
        written_s: when it was written, seconds since the epoch.
    """

    prior: Prior
    version: int = 0
    written_s: float = 0.0


class LivePrior:
    """Answers from the latest edition; an answer in the making keeps the one it has looked up."""

    def __init__(self, edition: Edition) -> None:
        self.edition = edition
        self.refreshes = 0
        self.refusals = 0

    def lookup(self, ads: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Prior.lookup`."""
        return self.edition.prior.lookup(ads)

    def state(self) -> dict[str, float]:
        """For `/state`; the age is in seconds."""
        edition = self.edition
        return {
            "version": edition.version,
            "age_s": round(max(time.time() - edition.written_s, 0.0), 3),
            "ads": len(edition.prior.ads),
            "refreshes": self.refreshes,
            "refusals": self.refusals,
        }

    def renew(self, edition: Edition) -> None:
        """From now on answer from this edition."""
        self.edition = edition
        self.refreshes += 1

    def refuse(self) -> None:
        """Count an edition that was not taken."""
        self.refusals += 1
