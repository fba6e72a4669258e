"""One vertical on the stream: its students, its prior, and what they all predicted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exfm.distill.config import TrainConfig
from exfm.distill.learners import StudentLearner
from exfm.distill.metrics import entropy, log_loss
from exfm.distill.prior import PriorLearner
from exfm.distill.scoring import ARMS, Floats
from exfm.distill.stream import VerticalStream
from exfm.features.schema import Schema
from exfm.models.checkpoint import Prior


@dataclass(frozen=True)
class Frozen:
    """What is published of a vertical: weights of both students, and the prior; `lite` is None where there is none."""

    student: dict[str, Tensor]
    lite: dict[str, Tensor] | None
    prior: Prior


class VerticalLearners:
    """A vertical's students, one of them smaller and one without a teacher, and its prior.

    Attributes:
        learned: how many rows they have learned.
        golden: a request of theirs, see `exfm.distill.publish.golden_request`, where it was made in advance.
    """

    def __init__(self, schema: Schema, ads: NDArray[np.int64], config: TrainConfig) -> None:
        made: dict[str, Any] = {"seed": config.seed, "batch": config.stream.batch, "history": config.history.model}
        self.student = StudentLearner(schema, config.student, config.distill, **made)
        self.plain = StudentLearner(schema, config.student, None, **made)
        self.lite: StudentLearner | None = None
        if config.lite.train:
            # What the teacher drops out at random shall not depend on whether there is a lite student.
            with torch.random.fork_rng(devices=[]):
                self.lite = StudentLearner(schema, config.lite, config.distill, **made)
        self.prior = PriorLearner(ads, len(schema.tasks), config.prior_strength)
        self.learned = 0
        self.golden: dict[str, NDArray[Any]] = {}
        self._loss, self._positives, self._rows = 0.0, 0.0, 0

    def count(self, labels: Floats, made: Floats) -> None:
        """Take rows in that were predicted, [n] each, and NaN where unknown."""
        self.learned += len(labels)
        known = ~np.isnan(labels)
        if known.any():
            self._loss += log_loss(labels[known], made[known]) * int(known.sum())
            self._positives += float(labels[known].sum())
            self._rows += int(known.sum())

    def running_ne(self) -> float:
        """Normalized entropy of the first task over everything predicted so far; NaN while undefined."""
        base = entropy(self._positives / self._rows) if self._rows else 0.0
        return self._loss / self._rows / base if base else math.nan

    def carried(self) -> dict[str, Any]:
        """All that they go on with, uncopied; `resume` takes it."""
        return {
            "student": self.student.carried(),
            "plain": self.plain.carried(),
            "lite": self.lite.carried() if self.lite else {},
            "prior": self.prior.carried(),
            "learned": self.learned,
            "golden": self.golden,
            "running": [self._loss, self._positives, self._rows],
        }

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave for the same schema and settings."""
        self.student.resume(carried["student"])
        self.plain.resume(carried["plain"])
        if self.lite:
            self.lite.resume(carried["lite"])
        self.prior.resume(carried["prior"])
        self.learned, self.golden = carried["learned"], carried["golden"]
        self._loss, self._positives, self._rows = carried["running"]


class VerticalTraining:
    """A vertical's rows of one source, on their way through its learners."""

    def __init__(self, stream: VerticalStream, learners: VerticalLearners) -> None:
        self.stream, self.learners = stream, learners
        self.student, self.plain, self.lite = learners.student, learners.plain, learners.lite
        self.prior = learners.prior
        self.arms = {arm: np.full(stream.labels.shape, np.nan, np.float32) for arm in ARMS}
        self.chunks: list[slice] = []
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
        self.learners.count(labels[:, 0], self.arms["student"][rows, 0])

    def freeze(self) -> None:
        """Keep students and prior as they are now for publishing, whatever they learn later."""
        if self._frozen is None:
            self._frozen = self.published

    @property
    def published(self) -> Frozen:
        """What to publish: as frozen, else as it stands."""
        lite = self.lite.state() if self.lite else None
        return self._frozen or Frozen(self.student.state(), lite, self.prior.prior())
