"""A whole run of the sharded teacher over a source: no students, they learn from the stream that it annotates."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from exfm.data.chunks import by_rows
from exfm.data.source import Source
from exfm.distill.config import TrainConfig
from exfm.distill.continual import refuse_other_settings, settings_of
from exfm.distill.metrics import measure
from exfm.distill.publish import lineage_of
from exfm.distill.sharded.learner import ShardedTeacherLearner
from exfm.distill.sharded.memory import available_bytes
from exfm.distill.stream import TeacherStream
from exfm.distill.trainer import TrainingError, held_out_from
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.ranks import Ranks
from exfm.models.sharded.snapshot import layout_of, stateless, teacher_of

FOLDER, SNAPSHOT, PLACE = "teacher.sharded", "teacher.pt", "training.sharded"
QUALITY = "last day, each row predicted before it was learned"


@dataclass(frozen=True)
class TeacherReport:
    """A finished run.

    Attributes:
        data: the source's name.
        rows: how many impressions passed.
        seconds: wall time.
        ranks: how many processes held the teacher.
        parameters: of its tables.
        tasks: AUC, NE and calibration by task over the last day, None where one is not defined.
        snapshot: the ordinary checkpoint; "" where this host's memory has no room for it.
    """

    data: str
    rows: int
    seconds: float
    ranks: int
    parameters: int
    tasks: dict[str, dict[str, float | None]]
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class TeacherRun:
    """One pass over a source, each chunk annotated before it is learned; a collective.

    Args:
        source: the same on each rank.
        config: of which students and their parts are not used.
        ranks: all of them.
        resume: a sharded teacher's folder to go on from; its log must end before this one begins.

    Raises:
        ShardingError: `resume` holds no such teacher, or one that has learned rows of this log.
    """

    before = None  # of a run that goes on within one stream, which this is not

    def __init__(self, source: Source, config: TrainConfig, ranks: Ranks, resume: Path | None = None) -> None:
        if not len(source.examples):
            raise TrainingError(f"{source.name}: no impressions")
        self.source, self.config, self._ranks = source, config, ranks
        self._began_s = time.monotonic()
        self._stream = TeacherStream.of(source, config)
        self.learned_until_ms = int(source.examples.time_ms[-1])
        sizes: dict[str, Any] = {"seed": config.seed, "batch": config.stream.batch, "ranks": ranks}
        counters = self._stream.counters.shape[1]
        self._learner = ShardedTeacherLearner(source.schema, self._stream.tasks, counters, config.teacher, **sizes)
        self._options = {"counters": counters, **config.teacher.model}
        self._done = 0
        if resume is not None:
            self._refuse_seen(resume)
            self._learner.restore(resume)

    def go_on(self, folder: Path) -> None:
        """Be the run over the same log, with the same settings, that was cut off after it had saved itself there.

        The figures will be of the rows from there on.

        Raises:
            ShardingError: there is no such teacher, or it is of a run over another log.
            TrainingError: that run had other settings.
        """
        there = stateless(folder).lineage
        if any(there.get(name) != here for name, here in self._log().items()):
            raise ShardingError(f"{folder}: is of a run over another log")
        refuse_other_settings(json.loads(str(there.get("settings", "{}"))), json.loads(settings_of(self.config)))
        self._learner.restore(folder)
        self._done = int(there["done"])

    def walk(self, out: Path, progress: Callable[[int], Any], checkpoint_s: float = math.inf) -> TeacherReport:
        """Learn everything; write `teacher.sharded/`, and `teacher.pt` if it fits.

        Args:
            out: where to.
            progress: gets a chunk's rows.
            checkpoint_s: seconds after which `training.sharded/` is written, to go on from if the run is cut off.
        """
        stream, learner, held_out = self._stream, self._learner, held_out_from(self.source, self.config)
        made = np.full(stream.labels.shape, np.nan, np.float32)
        already, saved, saved_s = learner.learned - self._done, self._done > held_out, time.monotonic()
        for chunk in by_rows(len(made), self.config.stream.chunk):
            if chunk.start < self._done:
                continue
            if chunk.stop > held_out and not saved:
                self._save(out / FOLDER, made, chunk.start)
                saved = True
            made[chunk] = learner.annotate(already + chunk.start, stream.rows[chunk], stream.counters[chunk])
            learner.learn(stream.rows[chunk], stream.counters[chunk], stream.labels[chunk])
            progress(chunk.stop - chunk.start)
            if self._ranks.agree(time.monotonic() - saved_s >= checkpoint_s):
                self._save(out / PLACE, made, chunk.stop, {"settings": settings_of(self.config)})
                saved_s = time.monotonic()
        if not saved:
            self._save(out / FOLDER, made, len(made))
        return self._report(made, self._finish(out))

    def _finish(self, out: Path) -> str:
        """Leave nothing to go on from; the ordinary teacher's path, as of `gathered`."""
        if self._ranks.rank:
            return ""
        path = gathered(out)  # may take more memory than there is: until it is done, the run can be gone on with
        checkpoint.remove(out / PLACE)
        return path

    def _log(self) -> dict[str, int]:
        times = self.source.examples.time_ms
        return {"rows": len(times), "first_ms": int(times[0]), "last_ms": int(times[-1])}

    def _save(
        self, folder: Path, made: NDArray[np.float32], learned: int, also: Mapping[str, str] | None = None
    ) -> None:
        times = self.source.examples.time_ms
        self.learned_until_ms = int(times[learned - 1]) if learned else 0
        lineage = {**lineage_of(cast(Any, self)), "quality": QUALITY, "ranks": self._ranks.world}
        lineage |= {"done": learned, **(also or {})}
        quality = {
            f"{name}_{task}": value
            for task, figures in self._figures(made).items()
            for name, value in figures.items()
            if value is not None
        }
        teacher = Checkpoint("teacher", self.source.schema, self._stream.tasks, {}, options=self._options)
        self._learner.save(folder, replace(teacher, quality=quality, lineage=lineage))

    def _figures(self, made: NDArray[np.float32]) -> dict[str, dict[str, float | None]]:
        day, figures = self.source.last_day, {}
        for place, task in enumerate(self._stream.tasks):
            said = made[day:, place]
            each = measure(np.where(np.isnan(said), np.nan, self._stream.labels[day:, place]), said)
            values = {"auc": each.auc, "ne": each.ne, "calibration": each.calibration}
            figures[task] = {name: None if np.isnan(value) else round(value, 6) for name, value in values.items()}
        return figures

    def _report(self, made: NDArray[np.float32], snapshot: str) -> TeacherReport:
        layout = self._learner.layout
        return TeacherReport(
            data=self.source.name,
            rows=len(made),
            seconds=round(time.monotonic() - self._began_s, 2),
            ranks=self._ranks.world,
            parameters=sum(layout.rows) * (layout.dimension + layout.tasks),
            tasks=self._figures(made),
            snapshot=snapshot,
        )

    def _refuse_seen(self, resume: Path) -> None:
        until_ms = int(stateless(resume).lineage.get("learned_until_ms", 0))
        if until_ms >= self.source.examples.time_ms[0]:
            raise ShardingError(f"{resume}: has learned until {until_ms} ms; the log begins before that")


def gathered(out: Path) -> str:
    """Make `teacher.pt` of `teacher.sharded/`; its path, or "" if it needs more memory than this process may take."""
    layout = layout_of(stateless(out / FOLDER))
    needed = 3 * 4 * sum(layout.rows) * (layout.dimension + layout.tasks)  # tables as read, stacked, and written
    path = out / SNAPSHOT
    path.unlink(missing_ok=True)  # an earlier run's is not this teacher
    if needed > available_bytes():
        return ""
    teacher_of(out / FOLDER).save(path)
    return str(path)
