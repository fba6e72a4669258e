"""Many seeded worlds, over several processes or in this one, and what came of them."""

import contextlib
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from tqdm import tqdm

from bench.simulation.watch import ViolationError
from bench.simulation.world import simulate

CHUNK = 25
"""Seeds that a process plays at a time."""


@dataclass
class Outcome:
    """Of some seeds.

    Attributes:
        seeds: how many were played.
        steps: before each of which the invariants were looked at.
        ends: what became of the requests.
        wrong: the violations, in words.
    """

    seeds: int = 0
    steps: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Take another one in."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.ends += other.ends
        self.wrong += other.wrong


def run_seeds(
    first: int, count: int, *, jobs: int = 1, quiet: bool = False, until_wrong: bool = False
) -> dict[str, Any]:
    """Play seeds first to first + count - 1; what became of all their requests, and what went wrong.

    Args:
        first: the first seed.
        count: how many.
        jobs: processes that play; 1: this one; 0: one per core. Few seeds are played in this one.
        quiet: without a progress bar.
        until_wrong: end at the first violation.
    """
    total, began_s = Outcome(), time.monotonic()
    with tqdm(total=count, desc="simulate", unit="seed", disable=quiet) as bar:
        for outcome in _outcomes(first, count, jobs or len(os.sched_getaffinity(0))):
            total.add(outcome)
            bar.update(outcome.seeds)
            if until_wrong and total.wrong:
                break
    took_s = time.monotonic() - began_s
    return {
        "seeds": total.seeds,
        "violations": len(total.wrong),
        "seeds_per_s": round(total.seeds / took_s, 1),
        "steps": total.steps,
        "requests": total.ends.total(),
        "ends": dict(sorted(total.ends.items())),
        "examples": total.wrong[:10],
    }


def _outcomes(first: int, count: int, jobs: int) -> Iterator[Outcome]:
    seeds = range(first, first + count)
    if jobs == 1 or count <= CHUNK:
        with _hushed():
            yield from map(_play, seeds)
        return
    chunks = [seeds[at : at + CHUNK] for at in range(0, count, CHUNK)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(_play_all, chunks)


def _play_all(seeds: Iterable[int]) -> Outcome:
    total = Outcome()
    with _hushed():
        for seed in seeds:
            total.add(_play(seed))
    return total


def _play(seed: int) -> Outcome:
    try:
        watch = simulate(seed)
    except ViolationError as error:
        return Outcome(1, wrong=[str(error)])
    except Exception as error:  # whatever it is, it belongs to that seed
        return Outcome(1, wrong=[f"seed {seed} failed: {error!r}"])
    finally:
        gc.collect()
    return Outcome(1, watch.steps, watch.ends)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Worlds are full of faults, and the server's own words about each would bury the report.

    Garbage is collected between worlds alone, where there is little: so no permit is found to be forgotten at a moment
    that depends on what ran before.
    """
    logger, collecting = logging.getLogger("serving"), gc.isenabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        logger.setLevel(level)
        gc.unfreeze()
        if collecting:
            gc.enable()
