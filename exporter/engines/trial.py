"""What one engine did when it was tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.profile import Latency


@dataclass(frozen=True)
class Trial:
    """One engine.

    Attributes:
        engine: its name.
        profile: latency by number of candidates; empty if it was not run.
        ne_loss: relative increase of the expected log loss over torch's, a share; None if it was not run.
        max_difference: of a probability to torch's, absolute; None if it was not run.
        accepted: whether it may serve.
        reason: why not; "" if it may.
        ratios: by another engine's name the share of its time that this one takes, see `table.paired_ratios`.
    """

    engine: str
    profile: Mapping[int, Latency]
    ne_loss: float | None
    max_difference: float | None
    accepted: bool
    reason: str
    ratios: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "engine": self.engine,
            "buckets": {str(size): latency.to_dict() for size, latency in self.profile.items()},
            "ne_loss": self.ne_loss,
            "max_difference": self.max_difference,
            "accepted": self.accepted,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class EngineChoice:
    """The engine whose files were written, and everything that was tried.

    Attributes:
        engine: the chosen one.
        trials: one per engine asked for, in that order.
        parity: the chosen one's largest difference to torch's probabilities, absolute.
        bound: the largest that is allowed; 1e-5 in fp32.
        gain: the share of a more exact engine's time that a less exact one may take at most to be chosen.
    """

    engine: str
    trials: tuple[Trial, ...]
    parity: float
    bound: float
    gain: float

    @property
    def chosen(self) -> Trial:
        """The chosen engine's trial."""
        return next(trial for trial in self.trials if trial.engine == self.engine)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: `engine`, `parity`, `profile` (latency by candidates), `choice` (its rule) and `trials`."""
        chosen = self.chosen.to_dict()
        return {
            "engine": self.engine,
            "parity": {"max_abs": self.parity, "bound": self.bound, "ne_loss": chosen["ne_loss"]},
            "profile": {"engine": self.engine, "buckets": chosen["buckets"]},
            "choice": {"rule": "paired rounds, median ratio; the most exact, unless beaten", "gain": self.gain},
            "trials": [{**trial.to_dict(), "time_ratio": trial.ratios.get(self.engine)} for trial in self.trials],
        }
