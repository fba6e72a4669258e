"""What a table is, and what a record holds: deltas and the optimizer's state, float32, of a row."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exfm.models.lazy.errors import LazyTableError, TableRowError
from exfm.models.lazy.fields import count_in, read_fields
from exfm.models.lazy.initial import initial
from exfm.models.lazy.records import Bytes, Ints

Floats = NDArray[np.float32]
STATES = 2
"""Accumulators per row: of the embedding, and of the first-order weights."""
FORM = "table.json"
"""The file in a table's folder that says its form."""


@dataclass(frozen=True)
class TableForm:
    """What a table is.

    Attributes:
        rows: how many there are, touched or not.
        dimension: of an embedding, which starts as the row's hash.
        tasks: first-order weights behind it, which start at zero.
        seed: of the hash.
        first: its first row; above 0 where it is one part of a table.
    """

    rows: int
    dimension: int
    tasks: int
    seed: int = 0
    first: int = 0

    @property
    def width(self) -> int:
        """Columns of a row's value."""
        return self.dimension + self.tasks

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return 4 * (self.width + STATES)

    @property
    def parameters(self) -> int:
        """Logical parameters; the optimizer's state is not counted."""
        return self.rows * self.width

    def places(self, rows: Ints, where: Path) -> Ints:
        """Where int64 [N] rows stand in this table, from 0; `TableRowError` if one of them doesn't."""
        last = self.first + self.rows - 1
        if len(rows) and (rows.min() < self.first or rows.max() > last):
            raise TableRowError(f"{where}: rows must be {self.first} to {last}")
        return rows - self.first

    def split(self, rows: Ints, records: Bytes) -> tuple[Floats, Floats]:
        """Of int64 [N] rows and their records the values, float32 [N, width], and the accumulators, [N, STATES]."""
        stored = records.view(np.float32)
        values = stored[:, : self.width].copy()
        values[:, : self.dimension] += initial(rows, self.dimension, self.seed)
        return values, stored[:, self.width :]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self)) + "\n"


def read_form(folder: Path) -> TableForm:
    """The form of the table in a folder; `LazyTableError` if there is none."""
    path = folder / FORM
    return form_of(path, read_fields(path))


def form_of(path: Path, found: dict[str, Any]) -> TableForm:
    """A form out of a file's fields; `LazyTableError` names the one that is wrong."""
    made = {name: count_in(path, found, name, least) for name, least in _LEAST.items()}
    if strange := found.keys() - made.keys():
        raise LazyTableError(f"{path}: field {min(strange)!r} is not known")
    return TableForm(**made)


_LEAST = {"rows": 1, "dimension": 0, "tasks": 0, "seed": 0, "first": 0}


class ReadTable(Protocol):
    """A table to read."""

    @property
    def form(self) -> TableForm:
        """Its form."""

    def read(self, rows: Ints) -> tuple[Floats, Floats]:
        """Of int64 [N] rows the values, float32 [N, width], and the accumulators, float32 [N, STATES].

        Raises:
            LazyTableError: a row is outside the table, or the table can't be read.
        """


class Table(ReadTable, Protocol):
    """A table to learn: what counts are its commits."""

    @property
    def logical_bytes(self) -> int:
        """The size of the files that the work is done in."""

    @property
    def real_bytes(self) -> int:
        """What those files take on their disks."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its commits are."""

    def learn(self, rows: Ints, change: Floats, states: Floats) -> None:
        """Add `change`, float32 [N, width], to different rows' values, and set their accumulators.

        Raises:
            LazyTableError: a full disk, say; nothing was changed.
        """

    def commit(self, note: bytes = b"") -> int:
        """Make what was learned last, together with the caller's `note`; the commit's number.

        Raises:
            LazyTableError: nothing was committed, and what was committed before is there; the next try may succeed.
        """

    def close(self) -> None:
        """Let go of it; what was learned since the last commit does not count."""
