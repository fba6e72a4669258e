"""A whole training run: walk the stream, measure, and write what export and people read."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from exfm.data.source import Source
from exfm.distill.config import TrainConfig
from exfm.distill.publish import publish
from exfm.distill.report import write_report
from exfm.distill.scoring import Predictions, TaskReport, TrainingReport
from exfm.distill.trainer import Progress, Trainer


def train(
    source: Source,
    config: TrainConfig,
    out: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    threads: int = 1,
) -> TrainingReport:
    """Train a teacher and a student per vertical in one pass over a source.

    Args:
        source: what `exfm.data.source.open_source` gives.
        config: see `exfm.distill.config.load_config`.
        out: where to write `teacher.pt`, `students/<vertical>.pt`, `metrics.json` and `learning.png`; None: nowhere.
        progress: called after each chunk.
        threads: of torch while it trains; batches are so small that more than one costs more than it brings.

    Returns:
        Figures; every row was predicted before it was learned.

    Raises:
        ConfigError, CounterError, ModelError: the configuration does not fit the schema.
        TrainingError: the source has no impressions, or none for a vertical.
        LazyTableError: a table on disk can't be opened or written.
    """
    began = time.monotonic()
    with torch.random.fork_rng(devices=[]), torch_threads(threads):
        trainer = Trainer(source, config)
        with closing(trainer.teacher):
            for step in trainer.chunks():
                if progress is not None:
                    progress(step)
            verticals = {each.stream.name: figures(trainer.predictions(each)) for each in trainer.verticals}
            report = TrainingReport(source.name, time.monotonic() - began, len(source.examples), verticals)
            if out is not None:
                publish(trainer, report, out)
                write_report(report, out)
    return report


def figures(made: Predictions) -> dict[str, TaskReport]:
    """Of each of a vertical's tasks."""
    return {task: TaskReport.of(made, place) for place, task in enumerate(made.tasks)}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch works with that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
