"""The one-pass stream: the teacher annotates a chunk, students predict and learn it, then the teacher learns it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import Tensor

from exfm.data.chunks import by_rows
from exfm.data.histories import Histories
from exfm.data.source import Source
from exfm.distill.config import ConfigError, TrainConfig
from exfm.distill.learners import TeacherLearner
from exfm.distill.past import StreamCounters
from exfm.distill.scoring import Floats, Predictions
from exfm.distill.stream import Ints, TeacherStream, VerticalStream, stack_labels, teacher_tasks
from exfm.distill.vertical import VerticalLearners, VerticalTraining
from exfm.features.schema import HistorySpec, Schema
from exfm.models.checkpoint import lite_of


class TrainingError(ValueError):
    """There is nothing to train on; the message says what is missing."""


@dataclass(frozen=True)
class Annotated:
    """A trace entry: rows [start, stop) were annotated by a teacher that had learned rows [0, learned)."""

    start: int
    stop: int
    learned: int


@dataclass
class Before:
    """What a run takes over from the run over the rows before.

    Attributes:
        teacher: goes on learning.
        verticals: by name; go on learning.
        counters: know those rows.
        rows: how many these were.
        first_ms: time of the first one.
        learned_until_ms: time of the latest one that was learned.
        histories: of this run's rows; None where students read none.
    """

    teacher: TeacherLearner
    verticals: Mapping[str, VerticalLearners]
    counters: StreamCounters
    rows: int
    first_ms: int
    learned_until_ms: int
    histories: Histories | None


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows done of total, and each vertical's normalized entropy so far (its first task)."""

    done: int
    total: int
    ne: dict[str, float]


@dataclass
class Trainer:
    """A run over a source; iterate `chunks` to the end, then read it.

    Attributes:
        before: what went before, if this source only goes on.
        trace: one entry per chunk, in order.
        learned_until_ms: time of the last row that the published students have learned.
    """

    source: Source
    config: TrainConfig
    before: Before | None = None
    trace: list[Annotated] = field(default_factory=list)

    def __post_init__(self) -> None:
        source, config, before = self.source, self.config, self.before
        self._refuse_unknown_features()
        if not len(source.examples):
            raise TrainingError(f"{source.name}: no impressions")
        self.rows = TeacherStream.of(source, config, before.counters if before else None)
        self.teacher = before.teacher if before else teacher_of(source.schema, self.rows.counters.shape[1], config)
        self._first_row = self.teacher.learned
        names = {vertical.name for vertical in source.schema.verticals}
        if config.lite.train and (taken := names & {lite_of(name) for name in names}):
            raise TrainingError(f"{source.name}: vertical {min(taken)!r} has the name of another one's lite student")
        histories, verticals = before.histories if before else self._histories(), source.schema.verticals
        streams = [VerticalStream.of(source, each.name, self.rows.tasks, histories) for each in verticals]
        for stream in streams:
            if not len(stream.index) and not before:
                raise TrainingError(f"{source.name}: vertical {stream.name!r} has no impression with an outcome")
        self._known_until_ms = before.learned_until_ms if before else -1
        self.learned_until_ms = max(int(source.examples.time_ms[-1]), self._known_until_ms)
        self._frozen_teacher: tuple[int, dict[str, Tensor]] | None = None
        learners = before.verticals if before else {}
        self.verticals = [
            VerticalTraining(each, learners.get(each.name) or VerticalLearners(each.schema, source.ads.key, config))
            for each in streams
        ]

    def chunks(self) -> Iterator[Progress]:
        """Walk the stream once; a step is a chunk: annotate it, let students predict and learn it, teach it."""
        total, size = len(self.source.examples), self.config.stream.chunk
        for chunk in by_rows(total, size):
            start, stop = chunk.start, chunk.stop
            if stop > self.held_out:
                self._freeze(start)
            rows, past = self.rows.rows[start:stop], self.rows.counters[start:stop]
            annotations = self._annotations(chunk, rows, past)
            self.trace.append(Annotated(start, stop, self.teacher.learned - self._first_row))
            for vertical in self.verticals:
                vertical.walk(start, stop, annotations)
            self.teacher.learn(rows, past, self.rows.labels[start:stop])
            yield Progress(stop, total, {each.stream.name: each.learners.running_ne() for each in self.verticals})

    def _annotations(self, chunk: slice, rows: Ints, past: Floats) -> Floats:
        """What the stream brings along of a teacher that had not learned these rows, before what this run's says.

        Where rows come behind later ones, this run's has learned the future, and says nothing.
        """
        made = self.teacher.annotate(self._first_row + chunk.start, rows, past)
        made[self.source.examples.time_ms[chunk] <= self._known_until_ms] = np.nan
        stored = self.source.examples.annotations
        for column, task in enumerate(self.rows.tasks):
            if task in stored:
                given = stored[task][chunk]
                made[:, column] = np.where(np.isnan(given), made[:, column], given)
        return made

    @cached_property
    def held_out(self) -> int:
        """The first row that the published students must not have learned; the number of rows if they may learn all."""
        return held_out_from(self.source, self.config)

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
        events, examples = self.source.events, self.source.examples
        spaces = () if events is None else tuple(int(space) for space in np.unique(events.space) if space)
        spec = history_of(self.source.name, self.config, 0 if events is None else events.dimension, spaces)
        return Histories(events, examples.user, examples.time_ms, spec) if events is not None and spec else None

    def _refuse_unknown_features(self) -> None:
        known = {feature.name for feature in self.source.schema.features}
        for part in ("teacher", "student", "lite"):
            if unknown := set(getattr(self.config, part).rates.multipliers) - known:
                raise ConfigError(f"{part}.rates.multipliers: {sorted(unknown)[0]!r} is no feature of the schema")


def teacher_of(schema: Schema, counters: int, config: TrainConfig) -> TeacherLearner:
    """The teacher of a run, untrained, that reads so many counter columns."""
    sizes = {"seed": config.seed, "batch": config.stream.batch}
    return TeacherLearner(schema, teacher_tasks(schema, config), counters, config.teacher, **sizes)


def history_of(name: str, config: TrainConfig, dimension: int, spaces: tuple[int, ...] = ()) -> HistorySpec | None:
    """What students read of histories whose events have so many dimensions; None: nothing.

    Raises:
        TrainingError: they should, but the data has no embeddings.
    """
    options = config.history
    if not options.length:
        return None
    if not dimension:
        raise TrainingError(
            f"{name}: history.length is {options.length}, but the data brings no embeddings; an example "
            "stream does, if its teacher has teacher.model.embedding"
        )
    return HistorySpec(options.length, dimension, options.delay_ms, spaces)


def held_out_from(source: Source, config: TrainConfig) -> int:
    """The first row that what is published must not have learned; the number of rows if it may learn all."""
    times, seconds = source.examples.time_ms, config.stream.holdout_s
    return int(np.searchsorted(times, times[-1] - seconds * 1e3)) if seconds else len(times)
