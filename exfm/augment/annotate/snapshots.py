"""Snapshots of the teacher by name, and which one is current; a new one takes over without a stop.

A snapshot is a file, `<name>.pt`, or, of a teacher whose tables are spread over ranks, a folder, `<name>.sharded`.
"""

import filecmp
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from exfm.distill.config import ConfigError, load_config
from exfm.distill.past import CounterPlan
from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint, CheckpointError, digest_of, load_checkpoint
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.frozen import hand_on
from exfm.models.sharded.checkpoint import ABOUT, refuse_short
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.snapshot import AbsentTable, dense_of, stateless, tableless
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
        in_shards: its table lies in shards, for ranks only; `model` can't be asked here.
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
    in_shards: bool = False

    @classmethod
    def of(cls, name: str, weights: str, checkpoint: Checkpoint, model: Teacher) -> "Snapshot":
        """A teacher by its checkpoint's word; `weights`: their hash's first digits."""
        return cls(
            name=name,
            id=f"{name}-{weights}",
            schema=checkpoint.schema,
            tasks=checkpoint.tasks,
            model=model,
            counters=int(checkpoint.options["counters"]),
            learned_until_ms=int(checkpoint.lineage.get("learned_until_ms", 0)),
            data=str(checkpoint.lineage.get("data", checkpoint.schema.name)),
            table_schema=checkpoint.table_schema,
            in_shards=isinstance(model.table, AbsentTable),
        )

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
    """A folder of snapshots, and `CURRENT`."""

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
        """Read a snapshot, but no table that lies in shards; `SnapshotError` if it is not there or no teacher."""
        try:
            if (shards := self.shards(name)).is_dir():
                return _of_shards(name, shards)
            return snapshot_of(name, load_checkpoint(self.file(name)))
        except (CheckpointError, ShardingError) as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error

    def described(self, name: str) -> Checkpoint:
        """What a snapshot says of itself; weights are left where they lie. `SnapshotError` if it is not there."""
        try:
            if (shards := self.shards(name)).is_dir():
                return stateless(shards)
            return load_checkpoint(self.file(name), mapped=True)
        except (CheckpointError, ShardingError) as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error

    def publish(self, checkpoint: Path, name: str) -> None:
        """Copy a teacher's checkpoint here and make it current; either happens whole or not at all.

        A name stands for its weights for good: annotations carry it, and whoever has loaded it never looks again.

        Args:
            checkpoint: a file, or a sharded teacher's folder, of which hard links are made where that can be.
            name: of the snapshot.

        Raises:
            SnapshotError: it is no teacher's checkpoint, or the name is another one's; nothing changes.
        """
        try:
            if checkpoint.is_dir():
                _of_shards(_checked(name), checkpoint)
                self._place_shards(checkpoint, name)
            else:
                snapshot_of(_checked(name), made := load_checkpoint(checkpoint))
                self._folder.mkdir(parents=True, exist_ok=True)
                self._place_table(made, name)
                self._place(checkpoint, name)
        except (CheckpointError, ShardingError) as error:
            raise SnapshotError(f"snapshot {name!r}: {error}") from error
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

    def _place_shards(self, checkpoint: Path, name: str) -> None:
        place = self.shards(name)
        if self.path(name).exists() or (place.exists() and not _same(checkpoint, place)):
            raise SnapshotError(f"snapshot {name!r} is there with other content; publish under a new name")
        if not place.exists():
            aside = self._folder / f".{name}.sharded.partial"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(checkpoint, aside, copy_function=_link)
            aside.replace(place)

    def _place(self, checkpoint: Path, name: str) -> None:
        path = self.path(name)
        if self.shards(name).exists():
            raise SnapshotError(f"snapshot {name!r} is there with other content; publish under a new name")
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

    def shards(self, name: str) -> Path:
        """Where a snapshot lies, or would, whose tables are spread over ranks."""
        return self._folder / f"{_checked(name)}.sharded"


def snapshot_of(name: str, checkpoint: Checkpoint) -> Snapshot:
    """A checkpoint as a snapshot; `SnapshotError` if it is a student's, `CheckpointError` if it does not fit itself."""
    model = checkpoint.build()
    if not isinstance(model, Teacher):
        raise SnapshotError(f"snapshot {name!r}: expected a teacher's checkpoint, got a {checkpoint.kind}'s")
    return Snapshot.of(name, digest_of(checkpoint.state), checkpoint, model)


def _of_shards(name: str, folder: Path) -> Snapshot:
    """Its id is of what one process can hold: the dense weights, which every step of training changes, and `ABOUT`."""
    teacher = dense_of(folder)
    refuse_short(folder)  # the tables, which nobody reads before the ranks do
    words = torch.frombuffer(bytearray((folder / ABOUT).read_bytes()), dtype=torch.uint8)
    return Snapshot.of(name, digest_of({**teacher.state, ABOUT: words}), teacher, tableless(teacher))


def _link(source: str, target: str) -> None:
    """What a checkpoint consists of never changes in its place, so a link is as good as a copy."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _same(some: Path, other: Path) -> bool:
    names = [{path.name for path in folder.iterdir()} for folder in (some, other)]
    return names[0] == names[1] and all(filecmp.cmp(some / each, other / each, shallow=False) for each in names[0])


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SnapshotError(f"snapshot {name[:64]!r}: a name is made of letters, digits, '.', '_' and '-'")
    return name
