"""A source as arrays that learners walk: everything encoded once, in time order."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Examples
from exfm.data.histories import Histories
from exfm.data.source import Source
from exfm.distill.config import ConfigError, TrainConfig
from exfm.distill.counters import counters
from exfm.distill.lazy import table_schema
from exfm.distill.past import StreamCounters
from exfm.features.encoding import Encoder
from exfm.features.schema import SIDES, Schema

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def encode(examples: Examples, schema: Schema) -> dict[str, Ints]:
    """Rows of the stacked table by side, int64 [N, features of the side], for blocks made with `schema`."""
    encoder = Encoder(schema)
    return {
        side: encoder.encode(side, examples.blocks[f"{side}_ids"], examples.blocks[f"{side}_numbers"]).rows
        for side in SIDES
    }


def stack_labels(columns: dict[str, Floats], tasks: tuple[str, ...]) -> Floats:
    """float32 [N, T], one column per task."""
    return np.stack([columns[task] for task in tasks], 1)


@dataclass(frozen=True)
class TeacherStream:
    """Every row as the teacher sees it: table rows [N, F], counters [N, C], labels [N, tasks]."""

    tasks: tuple[str, ...]
    rows: Ints
    counters: Floats
    labels: Floats

    @classmethod
    def of(cls, source: Source, config: TrainConfig, past: StreamCounters | None = None) -> "TeacherStream":
        """Encode; `CounterError` or `ConfigError` if a counter's key or a further outcome names nothing.

        Args:
            source: the rows.
            config: says which further outcomes and which counters.
            past: counters that know what came before the source, and know it too from now on.
        """
        examples = source.examples
        tasks = teacher_tasks(source.schema, config)
        if unknown := set(tasks) - set(examples.labels):
            raise ConfigError(f"teacher.also: the log has no outcome {sorted(unknown)[0]!r}")
        rows = np.concatenate(list(encode(examples, source.schema).values()), 1)
        if past:
            past.add(examples, rows)
            columns = past.columns(examples, rows)
        else:
            maturity_s, options = config.stream.maturity_s, config.counters
            columns = counters(examples, source.schema, rows, tasks=tasks, maturity_s=maturity_s, options=options)
        if (wide := table_schema(config.teacher, source.schema)) != source.schema:
            rows = np.concatenate(list(encode(examples, wide).values()), 1)
        return cls(tasks, rows, columns, stack_labels(examples.labels, tasks))


def teacher_tasks(schema: Schema, config: TrainConfig) -> tuple[str, ...]:
    """The outcomes that a teacher learns, those of the verticals first."""
    return tuple(dict.fromkeys([*schema.tasks, *config.teacher.also]))


@dataclass(frozen=True)
class VerticalStream:
    """A vertical's own rows.

    Attributes:
        name: of the vertical.
        schema: its own.
        index: int64 [n], ascending positions in the source's examples.
        request, candidate: table rows of user and context, and of the ad, [n, .].
        labels: float32 [n, T].
        ads: int64 [n], keys.
        teacher_columns: where its tasks stand among the teacher's.
        histories: of the source's rows, if the vertical's student reads them.
    """

    name: str
    schema: Schema
    index: Ints
    request: Ints
    candidate: Ints
    labels: Floats
    ads: Ints
    teacher_columns: list[int]
    histories: Histories | None = None

    @classmethod
    def of(
        cls, source: Source, name: str, teacher_tasks: tuple[str, ...], histories: Histories | None = None
    ) -> "VerticalStream":
        """The rows of the source that have a label for any of the vertical's tasks."""
        schema = replace(source.schema.for_vertical(name), history=histories.spec if histories else None)
        every = stack_labels(source.examples.labels, schema.tasks)
        index = np.flatnonzero(~np.isnan(every).all(1))
        mine = source.examples.take(index).project(source.schema, schema)
        rows = encode(mine, schema)
        request = np.concatenate([rows["user"], rows["context"]], 1)
        columns = [teacher_tasks.index(task) for task in schema.tasks]
        return cls(name, schema, index, request, rows["ad"], every[index], mine.ad, columns, histories)

    def history(self, rows: slice) -> Floats | None:
        """The histories of its own rows, float32 [n, L * (d + 2)]; None without."""
        return self.histories.rows(self.index[rows]) if self.histories else None

    def within(self, start: int, stop: int) -> slice:
        """Which of its rows stand in [start, stop) of the source's."""
        first, end = np.searchsorted(self.index, [start, stop])
        return slice(int(first), int(end))
