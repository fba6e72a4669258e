"""One model each with its optimizers: predicts, then learns."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exfm.distill.config import DistillOptions, Rates, StudentOptions, TeacherOptions
from exfm.distill.distiller import Distiller
from exfm.distill.lazy import RunTable, setting_of, table_schema
from exfm.distill.losses import label_loss
from exfm.distill.optimizer import MovingAverage, RowAdagrad, RowOptimizer, first_order_rates
from exfm.features.schema import Schema
from exfm.models.backbone import ModelError
from exfm.models.embedding import EmbeddingTable
from exfm.models.student import Student
from exfm.models.teacher import Teacher

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class LeakError(RuntimeError):
    """A snapshot was asked to annotate rows that it may have learned: a defect, never bad input."""


def base_rate(labels: Tensor) -> Tensor:
    """Smoothed share of positives per column of labels [B, T], strictly inside (0, 1); NaN labels do not count."""
    known = (~torch.isnan(labels)).sum(0)
    return (torch.nan_to_num(labels).sum(0) + 0.5) / (known + 1)


def pieces(rows: int, size: int) -> int:
    """How many even pieces of about `size` make up `rows`."""
    return max(1, round(rows / size))


class Fit:
    """Optimizers of one model: `rows` on its table, Adam on the rest, an average of the rest to predict."""

    def __init__(self, model: nn.Module, rows: RowOptimizer, rates: Rates, *more: nn.Module) -> None:
        self._model, self._rows = model, rows
        dense = [parameter for name, parameter in model.named_parameters() if name != "table.weight"]
        trained = dense + [parameter for module in more for parameter in module.parameters()]
        self._dense = torch.optim.Adam(trained, lr=rates.dense)
        self._average = MovingAverage(dense, rates.average)

    def step(self, loss: Tensor, examples: int) -> None:
        """One step down a mean loss over that many examples."""
        self._dense.zero_grad()
        torch.autograd.backward(loss)
        self._dense.step()
        self._rows.step(examples)
        self._average.update()

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Inside, the model is in evaluation mode with the weights that serve, and nothing is recorded."""
        self._model.eval()
        try:
            with torch.no_grad(), self._average.applied():
                yield
        finally:
            self._model.train()

    def state(self) -> dict[str, Tensor]:
        """The weights that serve, copied."""
        with self.predicting():
            return {name: value.clone() for name, value in self._model.state_dict().items()}

    def carried(self) -> dict[str, Any]:
        """Weights and optimizers as they stand, uncopied; `resume` takes it."""
        rows = self._rows.carried()  # first: a table on disk is committed by it, and the model says under what name
        return {
            "model": self._model.state_dict(),
            "rows": rows,
            "dense": self._dense.state_dict(),
            "average": self._average.carried(),
        }

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave for the same model."""
        self._model.load_state_dict(carried["model"])
        self._rows.resume(carried["rows"])
        self._dense.load_state_dict(carried["dense"])
        self._average.resume(carried["average"])


def row_adagrad(table: EmbeddingTable, schema: Schema, rates: Rates) -> RowAdagrad:
    """What learns a table in memory."""
    return RowAdagrad(table, rates.table, first_order_rates(schema, rates.first_order, rates.multipliers))


class TeacherLearner:
    """The teacher on the stream; its rows are those of `exfm.distill.lazy.table_schema`.

    Attributes:
        learned: how many rows of the stream it has learned; rows at or after that it may annotate.
        snapshots: how many states of its weights have come to be.
        lazy: its table, if that is one on disk.
    """

    def __init__(
        self, schema: Schema, tasks: tuple[str, ...], counters: int, options: TeacherOptions, *, seed: int, batch: int
    ) -> None:
        torch.manual_seed(seed)
        schema, setting = table_schema(options, schema), setting_of(options)
        self.lazy = RunTable(setting, schema, options.rates, seed) if setting else None
        make = self.lazy.make if self.lazy else EmbeddingTable
        try:
            self.model = Teacher(schema, tasks, counters, make_table=make, **options.model)
        except TypeError as error:
            raise ModelError(f"teacher: {error}") from error
        table = self.model.table
        rows = row_adagrad(table, schema, options.rates) if isinstance(table, EmbeddingTable) else self.lazy
        assert rows is not None
        self._fit = Fit(self.model, rows, options.rates)
        self._shuffle, self._batch = np.random.default_rng(seed), batch
        self.learned = 0
        self.snapshots = 0

    def annotate(self, start: int, rows: Ints, counters: Floats) -> Floats:
        """Probabilities [n, tasks] of the stream's rows from `start`; `LeakError` if it learned any of them."""
        if start < self.learned:
            raise LeakError(f"rows from {start} on cannot be annotated: the teacher has learned {self.learned} rows")
        with self._fit.predicting():
            return self._predict(self._given(rows), self._given(counters)).cpu().numpy()

    def learn(self, rows: Ints, counters: Floats, labels: Floats) -> None:
        """Learn the stream's next rows once, shuffled among themselves."""
        every, past, target = (self._given(array) for array in (rows, counters, labels))
        if not self.learned:
            self.model.start_at(base_rate(target))
        self.model.standardizer.update(past)
        for part in np.array_split(self._shuffle.permutation(len(rows)), pieces(len(rows), self._batch)):
            index = self._given(part)
            self._fit.step(self._loss(every[index], past[index], target[index]), len(part))
        self.learned += len(rows)
        self.snapshots += 1

    def _given(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array)

    def _predict(self, rows: Tensor, counters: Tensor) -> Tensor:
        return torch.sigmoid(self.model(rows, counters))

    def _loss(self, rows: Tensor, counters: Tensor, target: Tensor) -> Tensor:
        hidden, first_order = self.model.represent(rows, counters)
        return label_loss(self.model.predict(hidden, first_order), target) + self.model.compression_loss(hidden)

    def state(self) -> dict[str, Tensor]:
        """The weights that annotate, copied; those of a table on disk are kept there."""
        if self.lazy:
            self.lazy.freeze()
        return self._fit.state()

    def carried(self) -> dict[str, Any]:
        """All that it goes on with, uncopied; `resume` takes it."""
        shuffle = json.dumps(self._shuffle.bit_generator.state)
        return {"fit": self._fit.carried(), "shuffle": shuffle, "learned": self.learned, "snapshots": self.snapshots}

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave for the same options."""
        self._fit.resume(carried["fit"])
        self._shuffle.bit_generator.state = json.loads(carried["shuffle"])
        self.learned, self.snapshots = carried["learned"], carried["snapshots"]

    def close(self) -> None:
        """Let go of a table on disk."""
        if self.lazy:
            self.lazy.close()


class StudentLearner:
    """A student on the stream; with `distill`, also its auxiliary head and adapter."""

    def __init__(
        self,
        schema: Schema,
        options: StudentOptions,
        distill: DistillOptions | None,
        *,
        seed: int,
        batch: int,
        history: Mapping[str, Any] | None = None,
        make: Callable[..., Student] = Student,
    ) -> None:
        torch.manual_seed(seed)
        self.model = make(schema, options.backbone, options.dimension, options.model, history)
        self._distiller = Distiller(self.model.backbone.width, len(schema.tasks), distill) if distill else None
        more = [self._distiller.heads] if self._distiller else []
        self._fit = Fit(self.model, row_adagrad(self.model.table, schema, options.rates), options.rates, *more)
        self._batch, self._fresh = batch, True

    def stream(
        self, request: Ints, candidate: Ints, labels: Floats, teacher: Floats, history: Floats | None = None
    ) -> Floats:
        """Predict each batch of the next rows, then learn it.

        Args:
            request: int64 [n, request features].
            candidate: int64 [n, ad features].
            labels: float32 [n, T], NaN where unknown.
            teacher: the teacher's probabilities [n, T], NaN where it said nothing.
            history: float32 [n, L * (d + 2)] where the schema has a history.

        Returns:
            Probabilities [n, T], each made before its row was learned.
        """
        given = [request, candidate, labels, teacher, *([] if history is None else [history])]
        arrays = [torch.from_numpy(array) for array in given]
        parts = np.array_split(np.arange(len(labels)), pieces(len(labels), self._batch)) if len(labels) else []
        made = [self._batch_of(*(array[int(part[0]) : int(part[-1]) + 1] for array in arrays)) for part in parts]
        return np.concatenate(made) if made else np.empty(labels.shape, np.float32)

    def _batch_of(
        self, request: Tensor, candidate: Tensor, labels: Tensor, teacher: Tensor, history: Tensor | None = None
    ) -> Floats:
        owner = torch.arange(len(labels))
        with self._fit.predicting():
            probabilities = torch.sigmoid(self.model(request, candidate, owner, history)).numpy()
        if self._fresh:
            self._start_at(base_rate(labels))
        self._learn(request, candidate, labels, teacher, history)
        return probabilities

    def _learn(
        self, request: Tensor, candidate: Tensor, labels: Tensor, teacher: Tensor, history: Tensor | None
    ) -> None:
        gathered = self.model.table(request), self.model.table(candidate)
        hidden, first_order = self.model.represent(*gathered, torch.arange(len(labels)), history)
        loss = label_loss(self.model.head(hidden) + first_order, labels)
        if self._distiller:
            loss = loss + self._distiller.loss(hidden, labels, teacher)
        self._fit.step(loss, len(labels))

    def _start_at(self, rate: Tensor) -> None:
        self._fresh = False
        self.model.start_at(rate)
        if self._distiller:
            self._distiller.heads.start_at(rate)

    def state(self) -> dict[str, Tensor]:
        """The weights that serve, copied: those of the student alone."""
        return self._fit.state()

    def carried(self) -> dict[str, Any]:
        """All that it goes on with, uncopied; `resume` takes it."""
        distiller = self._distiller.carried() if self._distiller else {}
        return {"fit": self._fit.carried(), "fresh": self._fresh, "distiller": distiller}

    def resume(self, carried: Mapping[str, Any]) -> None:
        """Go on with what `carried` gave for the same options."""
        self._fit.resume(carried["fit"])
        self._fresh = carried["fresh"]
        if self._distiller:
            self._distiller.resume(carried["distiller"])
