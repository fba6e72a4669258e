"""The one-pass stream: the teacher annotates a chunk, students predict and learn it, then the teacher learns it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exfm.data.chunks import by_rows
from exfm.data.histories import Histories
from exfm.data.source import Source
from exfm.distill.config import ConfigError, TrainConfig
from exfm.distill.learners import StudentLearner, TeacherLearner
from exfm.distill.metrics import entropy, log_loss
from exfm.distill.prior import PriorLearner
from exfm.distill.scoring import ARMS, Floats, Predictions
from exfm.distill.stream import TeacherStream, VerticalStream, stack_labels
from exfm.features.schema import HistorySpec
from exfm.models.checkpoint import Prior, lite_of


class TrainingError(ValueError):
    """There is nothing to train on; the message says what is missing."""


@dataclass(frozen=True)
class Annotated:
    """A trace entry: rows [start, stop) were annotated by a teacher that had learned rows [0, learned)."""

    start: int
    stop: int
    learned: int


@dataclass(frozen=True)
class Frozen:
    """What is published of a vertical: weights of both students, and the prior; `lite` is None where there is none."""

    student: dict[str, Tensor]
    lite: dict[str, Tensor] | None
    prior: Prior


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows done of total, and each vertical's normalized entropy so far (its first task)."""

    done: int
    total: int
    ne: dict[str, float]


class VerticalTraining:
    """A vertical's students, one of them smaller and one without a teacher, its prior, and what they all predicted."""

    def __init__(self, stream: VerticalStream, ads: NDArray[np.int64], config: TrainConfig) -> None:
        self.stream = stream
        made: dict[str, Any] = {"seed": config.seed, "batch": config.stream.batch, "history": config.history.model}
        self.student = StudentLearner(stream.schema, config.student, config.distill, **made)
        self.plain = StudentLearner(stream.schema, config.student, None, **made)
        self.lite: StudentLearner | None = None
        if config.lite.train:
            # What the teacher drops out at random shall not depend on whether there is a lite student.
            with torch.random.fork_rng(devices=[]):
                self.lite = StudentLearner(stream.schema, config.lite, config.distill, **made)
        self.prior = PriorLearner(ads, len(stream.schema.tasks), config.prior_strength)
        self.arms = {arm: np.full(stream.labels.shape, np.nan, np.float32) for arm in ARMS}
        self.chunks: list[slice] = []
        self._loss, self._positives, self._rows = 0.0, 0.0, 0
        self._frozen: Frozen | None = None

    def walk(self, start: int, stop: int, annotations: Floats) -> None:
        """Predict and learn the vertical's rows among the stream's [start, stop)."""
        stream, rows = self.stream, self.stream.within(start, stop)
        request, candidate, labels = stream.request[rows], stream.candidate[rows], stream.labels[rows]
        teacher = annotations[stream.index[rows] - start][:, stream.teacher_columns]
        history = stream.history(rows)
        self.arms["teacher"][rows] = teacher
        self.arms["prior"][rows] = self.prior.predict(stream.ads[rows])
        self.arms["student"][rows] = self.student.stream(request, candidate, labels, teacher, history)
        untaught = np.full_like(teacher, np.nan)
        self.arms["plain"][rows] = self.plain.stream(request, candidate, labels, untaught, history)
        if self.lite:
            self.arms["lite"][rows] = self.lite.stream(request, candidate, labels, teacher, history)
        self.prior.learn(stream.ads[rows], labels)
        self.chunks.append(rows)
        self._count(rows)

    def _count(self, rows: slice) -> None:
        labels, made = self.stream.labels[rows, 0], self.arms["student"][rows, 0]
        known = ~np.isnan(labels)
        if known.any():
            self._loss += log_loss(labels[known], made[known]) * int(known.sum())
            self._positives += float(labels[known].sum())
            self._rows += int(known.sum())

    def freeze(self) -> None:
        """Keep students and prior as they are now for publishing, whatever they learn later."""
        if self._frozen is None:
            self._frozen = self.published

    @property
    def published(self) -> Frozen:
        """What to publish: as frozen, else as it stands."""
        lite = self.lite.state() if self.lite else None
        return self._frozen or Frozen(self.student.state(), lite, self.prior.prior())

    def running_ne(self) -> float:
        """Normalized entropy of the first task over everything predicted so far; NaN while undefined."""
        base = entropy(self._positives / self._rows) if self._rows else 0.0
        return self._loss / self._rows / base if base else math.nan


@dataclass
class Trainer:
    """A run over a source; iterate `chunks` to the end, then read it.

    Attributes:
        trace: one entry per chunk, in order.
        learned_until_ms: time of the last row that the published students have learned.
    """

    source: Source
    config: TrainConfig
    trace: list[Annotated] = field(default_factory=list)

    def __post_init__(self) -> None:
        source, config = self.source, self.config
        self._refuse_unknown_features()
        if not len(source.examples):
            raise TrainingError(f"{source.name}: no impressions")
        self.rows = TeacherStream.of(source, config)
        sizes = {"seed": config.seed, "batch": config.stream.batch}
        self.teacher = TeacherLearner(
            source.schema, self.rows.tasks, self.rows.counters.shape[1], config.teacher, **sizes
        )
        names = {vertical.name for vertical in source.schema.verticals}
        if config.lite.train and (taken := names & {lite_of(name) for name in names}):
            raise TrainingError(f"{source.name}: vertical {min(taken)!r} has the name of another one's lite student")
        histories, verticals = self._histories(), source.schema.verticals
        streams = [VerticalStream.of(source, each.name, self.rows.tasks, histories) for each in verticals]
        for stream in streams:
            if not len(stream.index):
                raise TrainingError(f"{source.name}: vertical {stream.name!r} has no impression with an outcome")
        self.learned_until_ms = int(source.examples.time_ms[-1])
        self._frozen_teacher: tuple[int, dict[str, Tensor]] | None = None
        self.verticals = [VerticalTraining(stream, source.ads.key, config) for stream in streams]

    def chunks(self) -> Iterator[Progress]:
        """Walk the stream once; a step is a chunk: annotate it, let students predict and learn it, teach it."""
        total, size = len(self.source.examples), self.config.stream.chunk
        for chunk in by_rows(total, size):
            start, stop = chunk.start, chunk.stop
            if stop > self.held_out:
                self._freeze(start)
            rows, past = self.rows.rows[start:stop], self.rows.counters[start:stop]
            annotations = self._stored_first(self.teacher.annotate(start, rows, past), chunk)
            self.trace.append(Annotated(start, stop, self.teacher.learned))
            for vertical in self.verticals:
                vertical.walk(start, stop, annotations)
            self.teacher.learn(rows, past, self.rows.labels[start:stop])
            yield Progress(stop, total, {each.stream.name: each.running_ne() for each in self.verticals})

    def _stored_first(self, made: Floats, chunk: slice) -> Floats:
        """What the stream brings along of a teacher that had not learned these rows, before what this run's says."""
        stored = self.source.examples.annotations
        for column, task in enumerate(self.rows.tasks):
            if task in stored:
                given = stored[task][chunk]
                made[:, column] = np.where(np.isnan(given), made[:, column], given)
        return made

    @cached_property
    def held_out(self) -> int:
        """The first row that the published students must not have learned; the number of rows if they may learn all."""
        times, seconds = self.source.examples.time_ms, self.config.stream.holdout_s
        return int(np.searchsorted(times, times[-1] - seconds * 1e3)) if seconds else len(times)

    @property
    def published_teacher(self) -> tuple[int, dict[str, Tensor]]:
        """Number and weights of the teacher to publish; it has learned what the published students have."""
        return self._frozen_teacher or (self.teacher.snapshots, self.teacher.state())

    def _freeze(self, start: int) -> None:
        if self._frozen_teacher is None:
            self._frozen_teacher = self.teacher.snapshots, self.teacher.state()
        self.learned_until_ms = min(self.learned_until_ms, int(self.source.examples.time_ms[start - 1]) if start else 0)
        for vertical in self.verticals:
            vertical.freeze()

    def predictions(self, vertical: VerticalTraining) -> Predictions:
        """Everything that was predicted for a vertical's rows."""
        stream, examples = vertical.stream, self.source.examples
        tasks = stream.schema.tasks
        known = all(task in examples.truth for task in tasks)
        truth = stack_labels(examples.truth, tasks)[stream.index] if known else np.empty((len(stream.index), 0), "f4")
        return Predictions(
            tasks=tasks,
            time_ms=examples.time_ms[stream.index],
            labels=stream.labels,
            truth=truth,
            arms=dict(vertical.arms),
            chunks=vertical.chunks,
            last_day=stream.within(self.source.last_day, len(examples)),
        )

    def _histories(self) -> Histories | None:
        options, source = self.config.history, self.source
        if not options.length:
            return None
        if source.events is None or not source.events.dimension:
            raise TrainingError(
                f"{source.name}: history.length is {options.length}, but the data brings no embeddings; an example "
                "stream does, if its teacher has teacher.model.embedding"
            )
        spaces = tuple(int(space) for space in np.unique(source.events.space) if space)
        spec = HistorySpec(options.length, source.events.dimension, options.delay_ms, spaces)
        return Histories(source.events, source.examples.user, source.examples.time_ms, spec)

    def _refuse_unknown_features(self) -> None:
        known = {feature.name for feature in self.source.schema.features}
        for part in ("teacher", "student", "lite"):
            if unknown := set(getattr(self.config, part).rates.multipliers) - known:
                raise ConfigError(f"{part}.rates.multipliers: {sorted(unknown)[0]!r} is no feature of the schema")
