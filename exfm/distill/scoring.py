"""What a run predicted, and how good that was: per chunk and over the last day."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from exfm.data.chunks import day_of
from exfm.distill.metrics import Figures, measure

Floats = NDArray[np.float32]
Arm = Literal["student", "plain", "teacher", "prior", "lite"]
ARMS: tuple[Arm, ...] = ("student", "plain", "teacher", "prior", "lite")
"""The distilled student, the same one without a teacher, the teacher, the prior, and the smaller student."""


@dataclass(frozen=True)
class Predictions:
    """A vertical's rows in time order, each predicted by every arm before any arm learned it.

    Attributes:
        tasks: the vertical's outcomes, T of them.
        time_ms: int64 [n].
        labels: float32 [n, T].
        truth: float32 [n, T], or of width 0 where it is not known.
        arms: float32 [n, T] per arm; NaN where it was not there.
        chunks: the rows of each chunk of the stream.
        last_day: the rows of the last day.
    """

    tasks: tuple[str, ...]
    time_ms: NDArray[np.int64]
    labels: Floats
    truth: Floats
    arms: dict[Arm, Floats]
    chunks: list[slice]
    last_day: slice

    def figures(self, arm: Arm, task: int, rows: slice) -> Figures:
        """One arm's figures for one task over some rows; those it said nothing of don't count."""
        made = self.arms[arm][rows, task]
        return measure(np.where(np.isnan(made), np.nan, self.labels[rows, task]), made)

    def nothing(self) -> "Predictions":
        """None of them."""
        none = {arm: made[:0] for arm, made in self.arms.items()}
        return Predictions(self.tasks, self.time_ms[:0], self.labels[:0], self.truth[:0], none, [], slice(0, 0))

    def plain(self) -> dict[str, Any]:
        """For a file; `of_plain` takes it."""
        chunks = [[each.start, each.stop] for each in self.chunks]
        return {**vars(self), "chunks": chunks, "last_day": [self.last_day.start, self.last_day.stop]}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Predictions":
        """What `plain` gave."""
        chunks = [slice(*each) for each in plain["chunks"]]
        return cls(**{**plain, "chunks": chunks, "last_day": slice(*plain["last_day"])})

    def followed_by(self, more: "Predictions", *, most: int, utc_offset_h: float) -> "Predictions":
        """These and later ones, the latest `most` rows of them and what else is in those rows' first chunk."""
        count, end = len(self.time_ms), len(self.time_ms) + len(more.time_ms)
        chunks = [*self.chunks, *(slice(each.start + count, each.stop + count) for each in more.chunks)]
        chunks = [each for each in chunks if end - each.stop < most]
        first = chunks[0].start if chunks else end

        def latest(old: NDArray[Any], new: NDArray[Any]) -> Any:
            return np.concatenate([old, new])[first:]

        time_ms = latest(self.time_ms, more.time_ms)
        days = np.maximum.accumulate(day_of(time_ms, utc_offset_h))
        known = self.truth.shape[1] == more.truth.shape[1]
        return Predictions(
            tasks=self.tasks,
            time_ms=time_ms,
            labels=latest(self.labels, more.labels),
            truth=latest(self.truth, more.truth) if known else np.empty((end - first, 0), np.float32),
            arms={arm: latest(self.arms[arm], more.arms[arm]) for arm in self.arms},
            chunks=[slice(each.start - first, each.stop - first) for each in chunks],
            last_day=slice(int(np.searchsorted(days, days[-1])) if len(days) else 0, len(days)),
        )


@dataclass(frozen=True)
class TaskReport:
    """One task of one vertical; figures of the last day, then the course of the whole stream, chunk by chunk.

    Figures are None where they are not defined; `bayes_ne` is that of the true probabilities, which only a simulator
    knows.
    """

    rows: int
    auc: float | None
    ne: float | None
    log_loss: float | None
    calibration: float | None
    auc_no_distill: float | None
    ne_no_distill: float | None
    teacher_auc: float | None
    teacher_ne: float | None
    prior_auc: float | None
    prior_ne: float | None
    lite_auc: float | None
    lite_ne: float | None
    lite_calibration: float | None
    bayes_ne: float | None
    chunks: list[dict[str, Any]]

    @classmethod
    def of(cls, made: Predictions, task: int) -> "TaskReport":
        """Measure one task."""
        student, plain, teacher, prior, lite = (made.figures(arm, task, made.last_day) for arm in ARMS)
        labels = made.labels[made.last_day, task]
        bayes = measure(labels, made.truth[made.last_day, task]).ne if made.truth.shape[1] else math.nan
        return cls(
            rows=student.rows,
            auc=_number(student.auc),
            ne=_number(student.ne),
            log_loss=_number(student.log_loss),
            calibration=_number(student.calibration),
            auc_no_distill=_number(plain.auc),
            ne_no_distill=_number(plain.ne),
            teacher_auc=_number(teacher.auc),
            teacher_ne=_number(teacher.ne),
            prior_auc=_number(prior.auc),
            prior_ne=_number(prior.ne),
            lite_auc=_number(lite.auc),
            lite_ne=_number(lite.ne),
            lite_calibration=_number(lite.calibration),
            bayes_ne=_number(bayes),
            chunks=list(_course(made, task)),
        )

    def quality(self) -> dict[str, float]:
        """The defined figures of the last day."""
        return {key: value for key, value in vars(self).items() if key != "chunks" and value is not None}

    def lite_quality(self) -> dict[str, float]:
        """The same of the smaller student; the larger one's figures stand under `full_...`."""
        own = {"auc": self.lite_auc, "ne": self.lite_ne, "calibration": self.lite_calibration}
        full = {"full_auc": self.auc, "full_ne": self.ne}
        others = {key: getattr(self, key) for key in ("teacher_auc", "teacher_ne", "prior_auc", "prior_ne", "bayes_ne")}
        return {key: value for key, value in {"rows": self.rows, **own, **full, **others}.items() if value is not None}


@dataclass(frozen=True)
class TrainingReport:
    """A finished run.

    Attributes:
        data: the source's name.
        seconds: wall time of the training.
        rows: how many impressions passed.
        verticals: per vertical, per task.
        place: of a run over a stream: up to where it has come.
    """

    data: str
    seconds: float
    rows: int
    verticals: dict[str, dict[str, TaskReport]]
    place: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a vertical's entry is its first task's, further tasks stand under `tasks`."""
        return {
            "data": self.data,
            "seconds": round(self.seconds, 2),
            "rows": self.rows,
            **({"place": self.place} if self.place else {}),
            "verticals": {name: _plain(tasks) for name, tasks in self.verticals.items()},
        }


def _plain(tasks: dict[str, TaskReport]) -> dict[str, Any]:
    first, *others = tasks.items()
    further = {"tasks": {name: asdict(report) for name, report in others}} if others else {}
    return {"task": first[0], **asdict(first[1]), **further}


def _course(made: Predictions, task: int) -> Iterator[dict[str, Any]]:
    for rows in made.chunks:
        if rows.start < rows.stop:
            student, plain, teacher = (made.figures(arm, task, rows) for arm in ARMS[:3])
            yield {
                "time_ms": int(made.time_ms[rows.start]),
                "rows": student.rows,
                "auc": _number(student.auc),
                "ne": _number(student.ne),
                "calibration": _number(student.calibration),
                "ne_no_distill": _number(plain.ne),
                "teacher_ne": _number(teacher.ne),
            }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
