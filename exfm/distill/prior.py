"""The prior: what can be said of an ad without a model; the ladder's last rung before an empty answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.models.checkpoint import Prior


class PriorLearner:
    """Smoothed rate per known ad, learned from the stream as it passes.

    An ad's rate is (positives + strength * base) / (impressions + strength), and all are scaled by one factor so that
    over everything learned their sum is the number of positives.

    Args:
        ads: int64 [A], ascending keys of the catalogue.
        tasks: how many outcomes.
        strength: how many impressions at the base rate each ad starts with.
    """

    def __init__(self, ads: NDArray[np.int64], tasks: int, strength: float = 20.0) -> None:
        self._ads, self._strength = ads, strength
        # One more row than ads: all others, so that totals over everything are at hand.
        self._positives = np.zeros((len(ads) + 1, tasks))
        self._impressions = np.zeros((len(ads) + 1, tasks))

    def know(self, ads: NDArray[np.int64]) -> None:
        """Tell these ads apart from now on, int64 [A], ascending, all that are known among them.

        What a new one's impressions were until now stays with all others.
        """
        place = np.append(np.searchsorted(ads, self._ads), len(ads))
        for name in ("_positives", "_impressions"):
            grown = np.zeros((len(ads) + 1, self._positives.shape[1]))
            grown[place] = getattr(self, name)
            setattr(self, name, grown)
        self._ads = ads

    def carried(self) -> dict[str, NDArray[Any]]:
        """What was counted; `resume` takes it."""
        return {"ads": self._ads, "positives": self._positives, "impressions": self._impressions}

    def resume(self, carried: Mapping[str, NDArray[Any]]) -> None:
        """Go on with what `carried` gave."""
        self._ads, self._positives, self._impressions = (carried[n] for n in ("ads", "positives", "impressions"))

    def learn(self, ads: NDArray[np.int64], labels: NDArray[np.float32]) -> None:
        """Take in impressions of ads int64 [N] with labels [N, T], NaN where unknown."""
        place = self._place(ads)
        np.add.at(self._positives, place, np.nan_to_num(labels))
        np.add.at(self._impressions, place, ~np.isnan(labels))

    def predict(self, ads: NDArray[np.int64]) -> NDArray[np.float32]:
        """Estimates float32 [N, T]."""
        prior = self.prior()
        return np.concatenate([prior.probability, prior.default[None]])[self._place(ads)]

    def prior(self) -> Prior:
        """The estimates as they stand."""
        base = (self._positives.sum(0) + 0.5) / (self._impressions.sum(0) + 1.0)
        rates = (self._positives + self._strength * base) / (self._impressions + self._strength)
        rates[-1] = base
        promised = (rates * self._impressions).sum(0)
        factor = np.where(promised > 0, (self._positives.sum(0) + 1e-9) / (promised + 1e-9), 1.0)
        calibrated = np.clip(rates * factor, 0.0, 1.0).astype(np.float32)
        return Prior(self._ads, calibrated[:-1], calibrated[-1])

    def _place(self, ads: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self._ads):
            return np.zeros(len(ads), np.int64)
        place = np.minimum(np.searchsorted(self._ads, ads), len(self._ads) - 1)
        return np.where(self._ads[place] == ads, place, len(self._ads))
