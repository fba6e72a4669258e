"""Priors without students: learned from a log alone, or taken from a checkpoint, and put beside published versions."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exfm.data.chunks import by_rows
from exfm.data.source import Source
from exfm.distill.config import TrainConfig
from exfm.distill.metrics import Figures, measure
from exfm.distill.prior import PriorLearner
from exfm.distill.stream import stack_labels
from exfm.features.prior_file import NAME, PriorFile, PriorFileError, read_prior, write_prior
from exfm.models.checkpoint import Checkpoint, CheckpointError, Prior


class RefreshError(ValueError):
    """A prior can't be refreshed as asked; the message says why."""


@dataclass(frozen=True)
class FreshPrior:
    """A prior and what it has learned.

    Attributes:
        vertical: whose it is.
        tasks: its outcomes.
        prior: the estimates.
        learned_until_ms: time of the last impression in it.
        figures: of the first task on the last day, each row predicted before it was learned; None where not measured.
    """

    vertical: str
    tasks: tuple[str, ...]
    prior: Prior
    learned_until_ms: int
    figures: Figures | None = None


def priors_of_log(source: Source, config: TrainConfig, progress: Callable[[int], object]) -> Iterator[FreshPrior]:
    """Learn the prior of each vertical from a log, in time order; `progress` gets the rows of each step."""
    examples = source.examples
    for vertical in source.schema.verticals:
        labels = stack_labels(examples.labels, vertical.tasks)
        index = np.flatnonzero(~np.isnan(labels).all(1))
        if not len(index):
            raise RefreshError(f"{source.name}: vertical {vertical.name!r} has no impression with an outcome")
        labels, ads = labels[index], examples.ad[index]
        learner, made = PriorLearner(source.ads.key, len(vertical.tasks), config.prior_strength), np.empty_like(labels)
        for rows in by_rows(len(index), config.stream.chunk):
            made[rows] = learner.predict(ads[rows])
            learner.learn(ads[rows], labels[rows])
            progress(rows.stop - rows.start)
        last = slice(int(np.searchsorted(index, source.last_day)), len(index))
        figures = measure(labels[last, 0], made[last, 0])
        yield FreshPrior(vertical.name, vertical.tasks, learner.prior(), int(examples.time_ms[index[-1]]), figures)


def prior_of_checkpoint(checkpoint: Checkpoint) -> FreshPrior:
    """The prior of a full student's checkpoint; `CheckpointError` if it has none of its own."""
    if checkpoint.prior is None or checkpoint.lineage.get("tier") == "lite":
        raise CheckpointError("only a full student's checkpoint has its vertical's prior")
    until_ms = int(checkpoint.lineage.get("learned_until_ms", 0))
    return FreshPrior(checkpoint.vertical, checkpoint.tasks, checkpoint.prior, until_ms)


def refresh(repository: Path, fresh: FreshPrior) -> PriorFile:
    """Put a prior beside its vertical's published versions, in place of an earlier refresh.

    Raises:
        RefreshError: the vertical is not published there.
        OSError: the file can't be written; the earlier one stays.
    """
    home = repository / fresh.vertical
    if not (home / "config.pbtxt").is_file():
        raise RefreshError(f"{repository}: no published model of vertical {fresh.vertical!r}; exfm-export writes one")
    prior, path = fresh.prior, home / NAME
    file = PriorFile(
        fresh.vertical,
        fresh.tasks,
        prior.ad,
        prior.probability,
        prior.default,
        version=_version(path) + 1,
        learned_until_ms=fresh.learned_until_ms,
        written_ms=time.time_ns() // 1_000_000,
    )
    write_prior(path, file)
    return file


def _version(path: Path) -> int:
    """Of the file that is there; 0 if there is none that can be read."""
    try:
        return read_prior(path).version
    except PriorFileError:
        return 0
