"""Snapshots of the teacher by name, and which one is current; a new one takes over without a stop."""

import filecmp
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from exfm.distill.config import ConfigError, load_config
from exfm.distill.past import CounterPlan
from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint, CheckpointError, digest_of, load_checkpoint
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.frozen import hand_on
from exfm.models.teacher import Teacher

CURRENT = "CURRENT"
"""The file in the folder that names the current snapshot."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class SnapshotError(Exception):
    """A snapshot can't be found or used; the message names it."""


@dataclass(frozen=True)
class Snapshot:
    """A loaded teacher.

    Attributes:
        name: of its file.
        id: the name with the first digits of its weights' hash: what annotations carry.
        schema: of its inputs.
        tasks: of its outputs.
        model: in evaluation mode.
        counters: how many counter columns it reads.
        learned_until_ms: time of the last row that it has learned; it must not annotate rows up to then.
        data: name of the source that it learned from; its packaged settings say what the counters are.
        table_schema: whose rows the model reads; counters are made from those of `schema`.
    """

    name: str
    id: str
    schema: Schema
    tasks: tuple[str, ...]
    model: Teacher
    counters: int
    learned_until_ms: int
    data: str
    table_schema: Schema

    @property
    def dimension(self) -> int:
        """Of its embeddings; 0: it gives none."""
        return self.model.compressor.dimension if self.model.compressor else 0

    @property
    def on_disk(self) -> bool:
        """Whether its table lies beside its file, not in it."""
        return isinstance(self.model.table, LazyEmbedding)

    def plan(self, config: Path | None = None) -> CounterPlan:
        """The counters that it was trained with, by its source's settings and a file over them.

        Raises:
            SnapshotError: the file is bad.
        """
        try:
            settings = load_config(self.data, config)
        except ConfigError as error:
            raise SnapshotError(str(error)) from error
        return CounterPlan(settings.counters, settings.stream.maturity_s)


class Snapshots:
    """A folder of `<name>.pt` files, and `CURRENT`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> str:
        """Name of the current snapshot; `SnapshotError` if none was published."""
        try:
            name = (self._folder / CURRENT).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SnapshotError(f"{self._folder}: no current snapshot: {error.strerror}") from error
        return _checked(name)

    def load(self, name: str) -> Snapshot:
        """Read a snapshot; `SnapshotError` if it is not there or no teacher."""
        try:
            return snapshot_of(name, load_checkpoint(self.file(name)))
        except CheckpointError as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error

    def publish(self, checkpoint: Path, name: str) -> None:
        """Copy a teacher's checkpoint here and make it current; either happens whole or not at all.

        A name stands for its weights for good: annotations carry it, and whoever has loaded it never looks again.

        Raises:
            SnapshotError: it is no teacher's checkpoint, or the name is another one's; nothing changes.
        """
        try:
            snapshot_of(_checked(name), made := load_checkpoint(checkpoint))
        except CheckpointError as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error
        self._folder.mkdir(parents=True, exist_ok=True)
        self._place_table(made, name)
        self._place(checkpoint, name)
        mark = self._folder / f".{CURRENT}.{os.getpid()}"
        mark.write_text(f"{name}\n", encoding="utf-8")
        mark.replace(self._folder / CURRENT)

    def _place_table(self, made: Checkpoint, name: str) -> None:
        """A table on disk comes first: who finds the checkpoint finds its table."""
        if made.table_digest and made.home:
            try:
                hand_on(made.home, self._folder, made.table_digest)
            except LazyTableError as error:
                raise SnapshotError(f"snapshot {name!r}: {error}") from error

    def _place(self, checkpoint: Path, name: str) -> None:
        path = self.path(name)
        if not path.exists():
            aside = self._folder / f".{name}.partial"
            shutil.copyfile(checkpoint, aside)
            aside.replace(path)
        elif not filecmp.cmp(checkpoint, path, shallow=False):
            raise SnapshotError(f"snapshot {name!r} is there with other content; publish under a new name")

    def file(self, name: str) -> Path:
        """Where a snapshot lies; `SnapshotError` if it doesn't."""
        path = self.path(name)
        if not path.is_file():
            raise SnapshotError(f"snapshot {name!r}: there is no {path}")
        return path

    def path(self, name: str) -> Path:
        """Where a snapshot lies, or would."""
        return self._folder / f"{_checked(name)}.pt"


def snapshot_of(name: str, checkpoint: Checkpoint) -> Snapshot:
    """A checkpoint as a snapshot; `SnapshotError` if it is a student's, `CheckpointError` if it does not fit itself."""
    model = checkpoint.build()
    if not isinstance(model, Teacher):
        raise SnapshotError(f"snapshot {name!r}: expected a teacher's checkpoint, got a {checkpoint.kind}'s")
    return Snapshot(
        name=name,
        id=f"{name}-{digest_of(checkpoint.state)}",
        schema=checkpoint.schema,
        tasks=checkpoint.tasks,
        model=model,
        counters=int(checkpoint.options["counters"]),
        learned_until_ms=int(checkpoint.lineage.get("learned_until_ms", 0)),
        data=str(checkpoint.lineage.get("data", checkpoint.schema.name)),
        table_schema=checkpoint.table_schema,
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SnapshotError(f"snapshot {name[:64]!r}: a name is made of letters, digits, '.', '_' and '-'")
    return name
