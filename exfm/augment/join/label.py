"""Labels from outcomes: a task is positive if an outcome within its window says so, else negative."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from exfm.augment.join import example
from exfm.augment.join.windows import JoinOptions
from exfm.events.outcome import Outcome
from exfm.features.schema import Schema


@dataclass(frozen=True)
class Labelled:
    """Examples, and what became of the outcomes that came for them.

    Attributes:
        batch: rows of `exfm.augment.join.example.SCHEMA`.
        used: outcomes within their window.
        late: outcomes that came in time to be read, but after their task's window.
        foreign: outcomes for a task that the impression's vertical lacks.
        before: outcomes whose time is before their impression's by more than the lateness; their clock is wrong.
    """

    batch: pa.RecordBatch
    used: int
    late: list[Outcome]
    foreign: int
    before: list[Outcome]


class Labels:
    """The labels of a schema's verticals."""

    def __init__(self, schema: Schema, options: JoinOptions) -> None:
        self.columns = {task: column for column, task in enumerate(schema.tasks)}
        self._options, self._lateness_ms = options, round(options.lateness_s * 1e3)
        width = len(self.columns)
        self._start = {each.name: np.full(width, np.nan, "<f4") for each in schema.verticals}
        for vertical in schema.verticals:
            self._start[vertical.name][[self.columns[task] for task in vertical.tasks]] = 0
        waits, verticals = options.windows_ms(schema), schema.verticals
        self._wait_ms = {
            task: max(waits[each.name] for each in verticals if task in each.tasks) + self._lateness_ms
            for task in self.columns
        }

    def wait_ms(self, task: str) -> int:
        """How long after its own time an outcome waits for an impression that is not there yet."""
        return self._wait_ms[task]

    def of(self, batch: pa.RecordBatch, outcomes: dict[bytes, list[Outcome]]) -> Labelled:
        """Label impressions, with the outcomes that came by key."""
        labels, delays, used, late, foreign, before = [], [], 0, list[Outcome](), 0, list[Outcome]()
        columns = (batch.column(name).to_pylist() for name in ("key", "vertical", "time_ms"))
        for key, vertical, time_ms in zip(*columns, strict=True):
            label = self._start[vertical].copy()
            delay = np.full_like(label, np.nan)
            for each in outcomes.get(key, ()):
                column = self.columns[each.task]
                if np.isnan(label[column]):
                    foreign += 1
                elif each.time_ms < time_ms - self._lateness_ms:
                    before.append(each)
                elif each.time_ms - time_ms > self._options.window_ms(each.task):
                    late.append(each)
                else:
                    used += 1
                    if each.value > 0:
                        label[column] = 1
                        delay[column] = np.fmin(delay[column], max(each.time_ms - time_ms, 0) / 1e3)
            labels.append(label.tobytes())
            delays.append(delay.tobytes())
        made = [*batch.columns, pa.array(labels, pa.binary()), pa.array(delays, pa.binary())]
        return Labelled(pa.RecordBatch.from_arrays(made, schema=example.SCHEMA), used, late, foreign, before)
