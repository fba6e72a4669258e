"""A table of as many rows as a disk has addresses for: values by hash, what was learned in a sparse file beside them.

A row's value is its hash (`initial`) plus what was learned of it, the stored delta; its record holds the deltas and the
optimizer's state, float32. Rows that were never learned take no room. The file is where the work is done; what counts
are the commits (`exfm.models.lazy.commits`), and a table that was not closed after one is made of them again.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.models.lazy.commits import Commits, Content
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.initial import initial
from exfm.models.lazy.records import Ints, SparseRecords

Floats = NDArray[np.float32]
STATES = 2
"""Accumulators per row: of the embedding, and of the first-order weights."""
_FORM, _WORK, _CLEAN, _LOCK = "table.json", "work.rows", "clean", "lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST_COMMITS = 16
_MANY = 1 << 20


@dataclass(frozen=True)
class TableForm:
    """What a table is.

    Attributes:
        rows: how many there are, touched or not.
        dimension: of an embedding, which starts as the row's hash.
        tasks: first-order weights behind it, which start at zero.
        seed: of the hash.
    """

    rows: int
    dimension: int
    tasks: int
    seed: int = 0

    @property
    def width(self) -> int:
        """Columns of a row's value."""
        return self.dimension + self.tasks

    @property
    def parameters(self) -> int:
        """Logical parameters; the optimizer's state is not counted."""
        return self.rows * self.width


class LazyTable:
    """A table in a folder; one process has it at a time.

    Raises:
        LazyTableError: another process has it, it was made for another form, or a commit is damaged.
    """

    def __init__(self, folder: Path, form: TableForm) -> None:
        self.form, self._folder = form, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / _LOCK)
        try:
            _same_form(folder / _FORM, form)
            size = 4 * (form.width + STATES)
            self._commits = Commits(folder, size)
            self._records = SparseRecords(folder / _WORK, form.rows, size)
            self._touched: list[Ints] = []
            self.note = b""
            """What the last commit was given to keep."""
            self._restore()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def logical_bytes(self) -> int:
        """The size of the file that the work is done in."""
        return self._records.logical_bytes

    @property
    def real_bytes(self) -> int:
        """What that file takes on the disk."""
        return self._records.real_bytes

    def read(self, rows: Ints) -> tuple[Floats, Floats]:
        """Of int64 [N] rows the values, float32 [N, width], and the accumulators, float32 [N, STATES].

        Raises:
            LazyTableError: a row is outside the table.
        """
        records = self._stored(rows)
        values = records[:, : self.form.width].copy()
        values[:, : self.form.dimension] += initial(rows, self.form.dimension, self.form.seed)
        return values, records[:, self.form.width :]

    def learn(self, rows: Ints, change: Floats, states: Floats) -> None:
        """Add `change`, float32 [N, width], to different rows' values, and set their accumulators.

        Raises:
            LazyTableError: a full disk, say; nothing was changed.
        """
        records = self._stored(rows)
        records[:, : self.form.width] += change
        records[:, self.form.width :] = states
        if not self._touched:
            (self._folder / _CLEAN).unlink(missing_ok=True)
        self._touched.append(rows.copy())
        self._records.write(rows, records.view(np.uint8))
        if len(self._touched) > 1 and sum(len(each) for each in self._touched) > _MANY:
            self._touched = [np.unique(np.concatenate(self._touched))]

    def commit(self, note: bytes = b"") -> int:
        """Make what was learned last, together with the caller's `note`; the commit's number.

        Raises:
            LazyTableError: nothing was committed, and what was committed before is there; the next try may succeed.
        """
        self._refuse_torn()
        base = len(self._commits.paths()) >= _MOST_COMMITS
        rows = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched, *([self._commits.rows()] * base)]))
        number = self._commits.add(Content(rows, self._records.read(rows), note), base=base)
        self.note, self._touched = note, []
        self._mark_clean(number)
        return number

    def close(self) -> None:
        """Let go of it; what was learned since the last commit does not count."""
        self._records.close()
        os.close(self._lock)

    def _stored(self, rows: Ints) -> Floats:
        self._refuse_torn()
        if len(rows) and (rows.min() < 0 or rows.max() >= self.form.rows):
            raise LazyTableError(f"{self._folder}: rows must be 0 to {self.form.rows - 1}")
        return self._records.read(rows).view(np.float32)

    def _refuse_torn(self) -> None:
        if self._records.torn:
            raise LazyTableError(f"{self._folder}: a step was cut off; open the table again, at its last commit")

    def _restore(self) -> None:
        """Bring the work file to the last commit, if it isn't there."""
        last, mark = self._commits.last(), self._folder / _CLEAN
        if mark.exists() and mark.read_text(encoding="utf-8") == _mark(last):
            self.note = self._commits.note()
            self._records.know(self._commits.rows())
            return
        mark.unlink(missing_ok=True)
        self._records.clear()
        for content in self._commits.read():
            self._records.write(content.rows, content.records)
            self.note = content.note
        self._mark_clean(last)

    def _mark_clean(self, number: int) -> None:
        """Say that the file is as the commit; for as long as the machine runs, since the file is never synced."""
        (self._folder / _CLEAN).write_text(_mark(number), encoding="utf-8")


def _mark(number: int) -> str:
    boot = _BOOT.read_text(encoding="utf-8").strip() if _BOOT.exists() else os.urandom(8).hex()  # that no mark bears
    return f"{number} {boot}"


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise LazyTableError(f"{path.parent}: another process has this table") from error
    return handle


def _same_form(path: Path, form: TableForm) -> None:
    if not path.exists():
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text(json.dumps(asdict(form)) + "\n", encoding="utf-8")
        aside.replace(path)
    elif (there := json.loads(path.read_text(encoding="utf-8"))) != asdict(form):
        raise LazyTableError(f"{path}: the table was made as {there}")
