"""A run's lazy table: made for the run, learned by it, kept for its teacher's checkpoint, and gone with it.

Unless the training goes on in another run: then the table stays, and what is carried over says as of when.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from exfm.distill.config import ConfigError, Rates, TeacherOptions
from exfm.distill.optimizer import adagrad, feature_rates
from exfm.features.schema import Schema
from exfm.models.checkpoint import CheckpointError, load_checkpoint
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.form import Table, TableForm
from exfm.models.lazy.frozen import freeze, frozen_at, hand_on, remove_frozen, tidy_frozen
from exfm.models.lazy.setting import LazySetting, LazySettingError, hashed_into


class RunTable:
    """Opens the table when a teacher is made with it; then it is what learns the teacher's rows.

    Args:
        setting: where it lies; what is committed there belongs to an earlier run, and is left alone unless this one
            goes on from it.
        schema: whose rows it holds.
        rates: step sizes.
        seed: of the initial values.
    """

    def __init__(self, setting: LazySetting, schema: Schema, rates: Rates, seed: int) -> None:
        self._setting, self._seed = setting, seed
        self._rates = torch.tensor(feature_rates(schema, rates.first_order, rates.multipliers))
        self._ends = torch.tensor([feature.rows for feature in schema.ordered]).cumsum(0)
        self._rate = rates.table
        self._kept: set[bytes] = set()
        self._carried: list[bytes] = []
        self._others = False
        self._fresh = True
        self._keeper: Path | None = None
        self._table: Table
        self.embedding: LazyEmbedding

    @property
    def table(self) -> Table:
        """The opened table."""
        return self._table

    def make(self, rows: int, dimension: int, tasks: int) -> LazyEmbedding:
        """In place of `EmbeddingTable`, for the teacher's constructor.

        Raises:
            LazyTableError: the table can't be opened.
        """
        form = TableForm(rows, dimension, tasks, self._seed)
        self._others = self._setting.committed(form)
        self._table = self._setting.open(form)
        self.embedding = LazyEmbedding(self._table)
        return self.embedding

    @torch.no_grad()
    def step(self, examples: int) -> None:
        """One step of row-wise Adagrad, as `RowAdagrad`, from the gradients since the last one.

        Args:
            examples: in the mean of the loss.

        Raises:
            ConfigError: the table is an earlier run's.
            LazyTableError: a full disk, say; no row was changed, and the gradients are gone.
        """
        self._refuse_others()
        taken = self.embedding.take_gradient()
        if taken is None:
            return
        rows, gradient = taken
        before = torch.from_numpy(self._table.read(rows.numpy())[1])
        rates = torch.full((len(rows), 2), self._rate)
        rates[:, 1] = self._rates[torch.bucketize(rows, self._ends, right=True)]
        change, states = adagrad(gradient * float(examples), before, rates, self.embedding.dimension)
        self._table.learn(rows.numpy(), np.asarray(change), np.asarray(states))
        self._fresh = True

    def reopen(self) -> None:
        """Open the table again, at its last commit; what was learned since then is gone. Errors as `make`."""
        self._table.close()
        self._table = self.embedding.table = self._setting.open(self._table.form)

    def freeze(self) -> None:
        """Commit the table, and keep it as it is now, under the digest that the embedding then has.

        Raises:
            ConfigError, LazyTableError: as `step`; what was kept before is there.
        """
        self._refuse_others()
        if not self._fresh:
            return
        self._table.commit()
        self._kept.add(digest := freeze(self._table, self._home))
        self.embedding.digest.copy_(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        self._fresh = False

    def carried(self) -> str:
        """The table as it is now, for a run that goes on from here; `resume` takes it. The last two are kept."""
        self.freeze()
        digest = self.embedding.digest.numpy().tobytes()
        self._carried = [*(each for each in self._carried if each != digest), digest]
        for old in self._carried[:-2]:
            self._drop(old)
        self._carried = self._carried[-2:]
        tidy_frozen(self._home, {*self._kept, *self._carried, *tables_of(self._home)})
        return digest.hex()

    def resume(self, carried: str) -> None:
        """Go on with what `carried` gave; `LazyTableError` if that is not there."""
        digest = bytes.fromhex(carried)
        place, form = frozen_at(self._home, digest), self._table.form
        as_it_stands = self._others and freeze(self._table, self._home)
        if as_it_stands != digest:
            if as_it_stands:
                self._drop(as_it_stands)
            self._table.close()
            self._setting.restore(place, form)
            self._table = self.embedding.table = self._setting.open(form)
        self._kept, self._carried, self._others, self._fresh = {digest}, [digest], False, True

    def hand_on(self, home: Path, digest: bytes) -> None:
        """Give what was kept under a digest to the folder of the checkpoint; `LazyTableError` if there is no room."""
        hand_on(self._home, home, digest)
        self._keeper = home.resolve()

    def give_way(self, home: Path, digest: bytes) -> None:
        """Remove the table of a checkpoint that another one has taken the place of, unless a run may go on from it."""
        if digest not in self._carried or home.resolve() != self._home.resolve():
            remove_frozen(home, digest)

    def close(self) -> None:
        """Let go of the table; unless it is carried on, it goes once it was handed on, or if it was never kept."""
        self._table.close()
        if self._keeper:
            for digest in self._kept - set(self._carried):
                self._drop(digest)
        if not self._carried and not self._others and (self._keeper or not self._kept):
            self._setting.remove()

    def _drop(self, digest: bytes) -> None:
        self._kept.discard(digest)
        if digest not in tables_of(self._home):
            remove_frozen(self._home, digest)

    def _refuse_others(self) -> None:
        if self._others:
            raise ConfigError(
                f"teacher.table: {self._home} holds what another run has committed, and this one starts from nothing; "
                "remove it, or name another folder"
            )

    @property
    def _home(self) -> Path:
        return self._setting.folders[0]


def tables_of(home: Path) -> set[bytes]:
    """Digests of the tables on disk that the checkpoints in a folder need."""
    found = set()
    for path in home.glob("*.pt"):
        with suppress(CheckpointError):  # a run's state, say
            found.add(load_checkpoint(path, mapped=True).table_digest)
    return found - {b""}


def setting_of(options: TeacherOptions) -> LazySetting | None:
    """Where the teacher's table on disk lies, if it has one; `ConfigError` if that can't be read."""
    try:
        return LazySetting.parse(options.table) if options.table else None
    except LazySettingError as error:
        raise ConfigError(f"teacher.table: {error}") from error


def table_schema(options: TeacherOptions, schema: Schema) -> Schema:
    """Whose rows the teacher reads, for a source's schema."""
    setting = setting_of(options)
    return hashed_into(schema, setting.buckets) if setting else schema
