"""The server under measurement: which models it serves, and how much is asked of it."""

import statistics
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.overload.figures import Record
from bench.overload.load import Run
from bench.overload.messages import Pools, make_pools
from bench.overload.repository import find_or_make
from bench.overload.schedule import Stream
from loadtest.checking.outcomes import TIERS, Outcome
from serving.catalog import Vertical
from serving.repository import load_catalog

EACH = 64
"""Different messages."""
WARM_S = 3.0


@dataclass(frozen=True)
class Setting:
    """What every part that runs a server has in common.

    Attributes:
        repository: the published models.
        vertical: the one that is asked, the repository's first.
        pools: its requests.
        candidates: per request.
        rate_rps: requests per second, Poisson, open loop.
        seconds: of one turn.
        turns: with and as many without.
        seed: of requests and arrivals.
    """

    repository: Path
    vertical: Vertical
    pools: Pools
    candidates: int
    rate_rps: float
    seconds: float
    turns: int
    seed: int

    @classmethod
    def of(cls, asked: Namespace, seconds: float, turns: int) -> "Setting":
        """As the command line says; `turns` of `seconds` unless it says otherwise."""
        repository, vertical = first_vertical(asked)
        candidates = min(asked.candidates, vertical.max_candidates)
        pools = make_pools(vertical, [candidates], EACH, asked.seed)
        return cls(
            repository,
            vertical,
            pools,
            candidates,
            asked.rate,
            asked.turn_s or seconds,
            asked.turns or turns,
            asked.seed,
        )

    def stream(self, seconds: float | None = None) -> list[Stream]:
        """One turn's arrivals."""
        return [Stream(self.candidates, self.rate_rps, seconds or self.seconds)]

    def plain(self) -> dict[str, float]:
        """For the report."""
        named = {"candidates": self.candidates, "rate_rps": self.rate_rps}
        return {**named, "seconds": self.seconds, "turns": self.turns, "budget_ms": 1e3 * self.vertical.budget_s}


def first_vertical(asked: Namespace) -> tuple[Path, Vertical]:
    """The model repository that is meant, made if there is none, and the first vertical in it."""
    repository = find_or_make(asked.model_repository, asked.out)
    catalog = load_catalog(repository)
    return repository, catalog[next(iter(catalog))]


def answered(record: Record) -> int:
    """Requests that got a ranking of whatever tier."""
    return int(np.isin(record.outcome, TIERS).sum())


def quantile_ms(runs: Sequence[Run], share: float, budget_s: float) -> float:
    """Over all requests of the runs, from the scheduled instant; what has no full answer counts as the budget at least.

    Refusals and lower tiers are quick: a server that falls back on them would look faster than one that does the work.
    """
    counted = [
        np.where(each.outcome == Outcome.FULL, each.latency_s, np.maximum(each.latency_s, budget_s))
        for each in (run.record for run in runs)
    ]
    return float(np.quantile(np.concatenate(counted), share)) * 1e3


def paired(first: Sequence[Run], second: Sequence[Run], share: float, budget_s: float) -> list[float]:
    """The quantile of each turn of `first` over that of its neighbour in `second`."""
    pairs = zip(first, second, strict=True)
    return [quantile_ms([one], share, budget_s) / quantile_ms([two], share, budget_s) for one, two in pairs]


def shares(runs: Sequence[Run], budget_s: float) -> dict[str, float]:
    """What else there is to know of some turns."""
    records = [run.record for run in runs]
    offered = sum(len(record) for record in records)
    return {
        "requests": offered,
        "p50_ms": quantile_ms(runs, 0.5, budget_s),
        "p99_ms": quantile_ms(runs, 0.99, budget_s),
        "late_share": sum(int(record.late(budget_s).sum()) for record in records) / offered,
        "full_share": sum(int((record.outcome == Outcome.FULL).sum()) for record in records) / offered,
        "sent_late_p99_ms": statistics.median(float(np.quantile(each.lateness_s, 0.99)) * 1e3 for each in records),
    }
