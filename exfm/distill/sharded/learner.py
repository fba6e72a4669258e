"""The teacher on the stream, its tables spread over ranks; imports torchrec.

All ranks walk the same stream; each computes an even part of every batch, and rows of the tables travel to whom needs
them. What comes out is what one `TeacherLearner` gives, up to rounding and to what dropout draws.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exfm.distill.config import ConfigError, Rates, TeacherOptions
from exfm.distill.learners import Fit, TeacherLearner
from exfm.distill.losses import label_loss
from exfm.distill.optimizer import MovingAverage, feature_rates
from exfm.features.schema import Schema
from exfm.models.backbone import ModelError
from exfm.models.checkpoint import Checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.layout import Layout
from exfm.models.sharded.parallel import fill, shards, spread
from exfm.models.sharded.ranks import Ranks
from exfm.models.sharded.snapshot import AVERAGE, BUFFER, TABLE, about, narrow, stateless
from exfm.models.sharded.table import ShardedTable
from exfm.models.teacher import Teacher

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class ShardedTeacherLearner(TeacherLearner):
    """As `TeacherLearner`; every method is a collective, to be called on all ranks with the same rows.

    Args:
        ranks: all of them.

    Attributes:
        layout: of its tables.
    """

    def __init__(
        self,
        schema: Schema,
        tasks: tuple[str, ...],
        counters: int,
        options: TeacherOptions,
        *,
        seed: int,
        batch: int,
        ranks: Ranks,
    ) -> None:
        if options.table:
            raise ConfigError("teacher.table: rows are spread over ranks or lie on disk, not both")
        torch.manual_seed(seed)
        self.lazy = None
        self._schema, self._tasks = schema, tasks
        self._options = {"counters": counters, **options.model}
        self._ranks = ranks
        try:
            teacher: Any = Teacher(narrow(schema), tasks, **self._options)
        except TypeError as error:
            raise ModelError(f"teacher: {error}") from error
        torch.manual_seed(seed + 1 + ranks.rank)  # each rank's rows and dropout are its own
        self.layout = Layout.of(schema, teacher.table.dimension, len(tasks))
        teacher.table = table = ShardedTable(self.layout)
        rates = options.rates
        table.learn_with(rates.table, feature_rates(schema, rates.first_order, rates.multipliers))
        self.model: Any = teacher
        self._step = spread(_Step(teacher), table, ranks)
        self._fit: ShardedFit = ShardedFit(self.model, rates)
        self._shuffle, self._batch = np.random.default_rng(seed), batch
        self.learned = 0
        self.snapshots = 0

    def save(self, folder: Path, teacher: Checkpoint) -> None:
        """Write a folder that any number of ranks restores.

        Args:
            folder: seen by all ranks.
            teacher: whose figures and lineage to keep; its state is not looked at.
        """
        own = {"learned": self.learned, "snapshots": self.snapshots, "updates": self._fit.average.carried()["updates"]}
        shuffle = {"shuffle": self._shuffle.bit_generator.state}
        sized = replace(teacher, options={**teacher.options, "dimension": self.layout.dimension})
        checkpoint.save(folder, self._tensors(), {**about(sized), **own, **shuffle})

    def restore(self, folder: Path) -> None:
        """Go on as the one that was saved there; `ShardingError` if it was another model."""
        there, told = stateless(folder), checkpoint.about(folder)
        if there.schema.digest != self._schema.digest or there.tasks != self._tasks:
            raise ShardingError(f"{folder}: the teacher there has another schema or other tasks")
        checkpoint.load(folder, self._tensors())
        self.learned, self.snapshots = told["learned"], told["snapshots"]
        self._fit.average.resume({**self._fit.average.carried(), "updates": told["updates"]})
        self._shuffle.bit_generator.state = told["shuffle"]

    def start_from(self, teacher: Checkpoint) -> None:
        """Take an ordinary teacher's weights, the same on each rank, with optimizers that have seen nothing."""
        fill(self.model.table, teacher.state[TABLE])
        for name, tensor in {**self._fit.tensors(), **self._buffers()}.items():
            kind, _, own = name.partition(".")
            if kind != "adam":
                tensor.copy_(teacher.state[own])

    def state(self) -> dict[str, Tensor]:
        """Not here: no rank has all weights; `save`, then `exfm.models.sharded.snapshot.teacher_of`."""
        raise ShardingError("a sharded teacher has no state in one place; save it")

    def _tensors(self) -> dict[str, Any]:
        return {**shards(self.model.table), **self._fit.tensors(), **self._buffers()}

    def _buffers(self) -> dict[str, Tensor]:
        return {BUFFER + f"standardizer.{name}": each for name, each in self.model.standardizer.named_buffers()}

    def _given(self, array: NDArray[Any]) -> Tensor:
        return super()._given(array).to(self._ranks.device)

    def _predict(self, rows: Tensor, counters: Tensor) -> Tensor:
        count, ranks = len(rows), self._ranks
        share = -(-count // ranks.world)
        mine = (ranks.rank * share + torch.arange(share, device=rows.device)).clamp(max=count - 1)
        return ranks.gather(super()._predict(rows[mine], counters[mine]), count)

    def _loss(self, rows: Tensor, counters: Tensor, target: Tensor) -> Tensor:
        """This rank's part, times the ranks, for gradients are means over them."""
        mine, count, world = self._ranks.part(len(target)), len(target), self._ranks.world
        known = (~torch.isnan(target)).sum(0)
        own = target[mine]
        share = world * (~torch.isnan(own)).sum(0) / known.clamp(min=1)
        whole = world * len(own) / count
        if not len(own):  # a rank without rows still takes part in the exchange
            mine, own = slice(0, 1), torch.full_like(target[:1], torch.nan)
        self.model.table.examples = count
        loss: Tensor = self._step(rows[mine], counters[mine], own, share, whole)
        return loss


class ShardedFit(Fit):
    """The dense part's optimizers; the tables' steps are part of the backward pass."""

    def __init__(self, model: nn.Module, rates: Rates) -> None:
        self._model = model
        self._named = {name: each for name, each in model.named_parameters() if not name.startswith("table.")}
        dense = list(self._named.values())
        self._dense = torch.optim.Adam(dense, lr=rates.dense)
        for parameter in dense:  # as Adam would at its first step, so that there is something to restore into
            moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS[1:]}
            self._dense.state[parameter] = {"step": torch.zeros(()), **moments}
        self.average = self._average = MovingAverage(dense, rates.average)

    def step(self, loss: Tensor, examples: int) -> None:  # noqa: ARG002  # the table was told
        """One step down this rank's part of a mean loss."""
        self._dense.zero_grad()
        torch.autograd.backward(loss)
        self._dense.step()
        self._average.update()

    def tensors(self) -> dict[str, Tensor]:
        """Everything there is, by name, sharing its memory."""
        made: dict[str, Tensor] = {}
        for (name, parameter), average in zip(self._named.items(), self.average.carried()["average"], strict=True):
            made |= {f"dense.{name}": parameter.detach(), AVERAGE + name: average}
            made |= {f"adam.{name}.{moment}": self._dense.state[parameter][moment] for moment in MOMENTS}
        return made


class _Step(nn.Module):
    """The loss of one rank's rows: what is called on all ranks."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, rows: Tensor, counters: Tensor, target: Tensor, share: Tensor, whole: float) -> Tensor:
        """Mean losses per task times `share` [tasks], and the compressor's times `whole`."""
        hidden, first_order = self.teacher.represent(rows, counters)
        logits = self.teacher.predict(hidden, first_order)
        each = [label_loss(logits[:, [task]], target[:, [task]]) for task in range(target.shape[1])]
        loss: Tensor = (torch.stack(each) * share).sum() + whole * self.teacher.compression_loss(hidden)
        return loss
