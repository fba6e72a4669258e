"""What is sent when: Poisson streams laid over one another, fixed before the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.schedule import poisson


@dataclass(frozen=True)
class Stream:
    """Requests of one size arriving at one rate for some time.

    Attributes:
        candidates: per request; names the pool of messages.
        rate_rps: mean rate of the Poisson process.
        seconds: how long it lasts.
        at_s: when it begins, seconds from the run's start.
    """

    candidates: int
    rate_rps: float
    seconds: float
    at_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Instants, float64 [N] increasing, and int64 [N]: which stream and which pool each request belongs to."""

    at_s: NDArray[np.float64]
    stream: NDArray[np.int64]
    candidates: NDArray[np.int64]

    def plain(self) -> dict[str, NDArray[Any]]:
        """As arrays to be saved."""
        return dict(vars(self))


def schedule(streams: Sequence[Stream], seed: int) -> Schedule:
    """All arrivals of the streams, merged by time."""
    parts = [_instants(stream, seed + 1009 * index) for index, stream in enumerate(streams)]
    lengths = [len(part) for part in parts]
    at_s = np.concatenate(parts)
    order = np.argsort(at_s, kind="stable")
    which = np.repeat(np.arange(len(streams)), lengths)[order]
    sizes = np.array([stream.candidates for stream in streams], np.int64)
    return Schedule(at_s[order], which, sizes[which])


def _instants(stream: Stream, seed: int) -> NDArray[np.float64]:
    expected = stream.rate_rps * stream.seconds
    # Eight standard deviations above the mean: enough arrivals to fill the time, whatever the seed.
    instants = poisson(stream.rate_rps, int(expected + 8 * np.sqrt(expected) + 8), seed)
    return stream.at_s + instants[instants < stream.seconds]
