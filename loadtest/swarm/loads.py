"""The parts of a run by offered rate: what a shape with several rates says of goodput against load."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.shapes import Profile
from loadtest.report.sweep import swept
from loadtest.verdict.tally import Tally

PARTS = 10
"""A rate that moves steadily is read in so many even parts; of steps, more than these go together by rate."""


@dataclass(frozen=True)
class Loads:
    """Which load an instant of a run belongs to.

    Attributes:
        starts_s: float64 [P], where each piece of the run begins, increasing, the first at 0.
        load: int64 [P], the load that each piece belongs to, from 0 on.
        seconds: float64 [L], length of all pieces of each load.
        said: L texts, for people.
    """

    starts_s: NDArray[np.float64]
    load: NDArray[np.int64]
    seconds: NDArray[np.float64]
    said: tuple[str, ...]

    def at(self, at_s: float) -> int:
        """The load at an instant of the run, seconds from its start."""
        return int(self.load[max(int(np.searchsorted(self.starts_s, at_s, side="right")) - 1, 0)])

    def sweep(self, tallies: Mapping[int, Tally]) -> list[dict[str, Any]]:
        """A line per load at which anything was offered, by rate, as pages draw them; empty for one load alone."""
        lines = [
            {**swept(tally, seconds), "said": said}
            for index, (seconds, said) in enumerate(zip(self.seconds.tolist(), self.said, strict=True))
            if (tally := tallies.get(index)) is not None and tally.offered
        ]
        return sorted(lines, key=lambda line: float(line["offered_rps"])) if len(lines) > 1 else []


def loads_of(profile: Profile) -> Loads:
    """Steps as they are, each a load; many short ones by rate; a rate that moves steadily in even parts."""
    widths = np.diff(profile.at_s)
    some = widths > 0
    starts_s, rates = profile.at_s[:-1][some], profile.rate_rps[:-1][some]
    if (profile.rate_rps[1:][some] != rates).any():
        starts_s = np.linspace(0.0, profile.seconds, PARTS, endpoint=False)
        ends_s = [*starts_s[1:].tolist(), profile.seconds]
        said = tuple(f"{start_s:.3g} to {end_s:.3g} s" for start_s, end_s in zip(starts_s, ends_s, strict=True))
        return Loads(starts_s, np.arange(PARTS), np.full(PARTS, profile.seconds / PARTS), said)
    if len(rates) <= PARTS:
        said = tuple(f"{rate:.4g}/s from {start_s:.3g} s on" for rate, start_s in zip(rates, starts_s, strict=True))
        return Loads(starts_s, np.arange(len(rates)), widths[some], said)
    different, load = np.unique(rates, return_inverse=True)
    return Loads(
        starts_s, load, np.bincount(load, widths[some]).astype(np.float64), tuple(f"{rate:.4g}/s" for rate in different)
    )
