"""A log as a recording: every impression is asked for again at its own instant, its ad among others of the catalogue.

A log says what was shown to whom and when, not what else was in the running; the other candidates are drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.data.source import Source
from exfm.features.schema import Schema
from loadtest.workload.asked import Workload, WorkloadError
from loadtest.workload.making import Blocks, Maker, log_of
from loadtest.workload.sizes import Sizes

MOST = 20_000
"""Requests are made before the run and stay in memory, some tens of kilobytes each."""


@dataclass(frozen=True)
class Part:
    """Which part of a log: `seconds` from `start_s` after its first row on."""

    start_s: float = 0.0
    seconds: float = float("inf")


def from_log(
    source: Source, schema: Schema, vertical: str, sizes: Sizes, *, part: Part, seed: int
) -> tuple[NDArray[np.float64], Workload]:
    """The schedule, float64 [N] in seconds from the part's beginning, and a request per user and instant of the log.

    Args:
        source: the log; of an example stream, all that is committed.
        schema: all features, or the vertical's.
        vertical: whose impressions; those without a label of its tasks are another's.
        sizes: candidates per request; drawn.
        part: of the log.
        seed: decides sizes, bids, and the candidates that the log doesn't name.

    Raises:
        SizesError: the vertical takes fewer candidates.
        WorkloadError: the log lacks features or the vertical, or the part holds no impression or more than `MOST`.
    """
    own, log = log_of(source, schema, vertical, sizes, seed)
    rows, tasks = log.rows, own.vertical(vertical).tasks
    mine = ~np.all([np.isnan(rows.labels[task]) for task in tasks if task in rows.labels], axis=0)
    at_s = (rows.time_ms - rows.time_ms[0]) / 1e3 - part.start_s
    chosen = np.flatnonzero(mine & (at_s >= 0) & (at_s < part.seconds))
    chosen = chosen[np.lexsort((rows.user[chosen], rows.time_ms[chosen]))]
    fresh = np.flatnonzero(_differs(rows.time_ms[chosen]) | _differs(rows.user[chosen]))
    if not 0 < len(fresh) <= MOST:
        raise WorkloadError(f"log {source.name!r}: that part holds {len(fresh):,} requests; 1 to {MOST:,} can be made")
    shown = np.split(chosen, fresh[1:])
    counts = np.maximum(sizes.draw(len(shown), seed), [len(np.unique(rows.ad[each])) for each in shown])
    waiting = iter(shown)

    def parts(count: int) -> tuple[Blocks, NDArray[np.int64]]:
        group = next(waiting)
        return log.request(int(group[0]), np.searchsorted(log.ads.key, np.unique(rows.ad[group])), count)

    origin = f"log {source.name}, {len(chosen):,} impressions"
    return at_s[chosen[fresh]], Maker(vertical, tasks, log.draw, parts).of_counts(counts, origin)


def _differs(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [N]: whether a value is another than the one before; true for the first."""
    return np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])
