"""A table of as many rows as a disk has addresses for: values by hash, what was learned in a sparse file beside them.

A row's value is its hash (`initial`) plus what was learned of it, the stored delta; its record holds the deltas and the
optimizer's state, float32. Rows that were never learned take no room. The file is where the work is done; what counts
are the commits (`exfm.models.lazy.commits`), and a table that was not closed after one is made of them again.
"""

import fcntl
import os
from pathlib import Path

import numpy as np

from exfm.models.lazy.commits import Commits, write_durably
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import FORM, Floats, TableForm, read_form
from exfm.models.lazy.records import Bytes, Ints, SparseRecords
from exfm.models.lazy.runs import Run, merged_rows

_WORK, _CLEAN, _LOCK = "work.rows", "clean", "lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST_COMMITS = 16
_MANY = 1 << 20


class LazyTable:
    """A table in a folder, see `exfm.models.lazy.form.Table`; one process has it at a time.

    Args:
        folder: made if it isn't there.
        form: of the table.
        at: the commit to open it at, those after it are forgotten; None: the last.

    Raises:
        LazyTableError: another process has it, it was made for another form, or a commit is damaged.
    """

    def __init__(self, folder: Path, form: TableForm, at: int | None = None) -> None:
        self.form, self._folder = form, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / _LOCK)
        try:
            _same_form(folder, form)
            self._commits = Commits(folder, form.size)
            self._commits.clean(at)
            self._touched: list[Ints] = []
            self.number = self._commits.last()
            """Of the last commit; 0 if there is none."""
            self.note = b""
            """What the last commit was given to keep."""
            self._records = SparseRecords(folder / _WORK, form.rows, form.size)
            try:
                self._restore()
            except BaseException:
                self._records.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self._folder,)

    @property
    def logical_bytes(self) -> int:
        return self._records.logical_bytes

    @property
    def real_bytes(self) -> int:
        return self._records.real_bytes

    def read(self, rows: Ints) -> tuple[Floats, Floats]:
        return self.form.split(rows, self._stored(rows))

    def learn(self, rows: Ints, change: Floats, states: Floats) -> None:
        records = self._stored(rows).view(np.float32)
        records[:, : self.form.width] += change
        records[:, self.form.width :] = states
        if not self._touched:
            (self._folder / _CLEAN).unlink(missing_ok=True)
        self._touched.append(rows.copy())
        self._records.write(self.form.places(rows, self._folder), records.view(np.uint8))
        if len(self._touched) > 1 and sum(len(each) for each in self._touched) > _MANY:
            self._touched = [np.unique(np.concatenate(self._touched))]

    def undo(self) -> None:
        """Take the last `learn` back; `LazyTableError` if the disk is broken: open the table again."""
        self._records.undo()

    def commit(self, note: bytes = b"") -> int:
        self.prepare(note)
        return self.settle(note)

    def prepare(self, note: bytes = b"") -> None:
        """Write the next commit, which counts once it is settled; may be done anew until then.

        Raises:
            LazyTableError: as `commit`.
        """
        self._refuse_torn()
        base = len(self._commits.paths()) >= _MOST_COMMITS
        touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched]))
        before = self._commits.runs(self.number) if base else []
        self._commits.write(self.number + 1, [*before, Run.of(touched, self._stored)], note, base=base)

    def settle(self, note: bytes = b"") -> int:
        """What was prepared last, with this note, is the last commit now; its number."""
        self.number, self.note, self._touched = self.number + 1, note, []
        self._commits.prune()
        self._mark_clean()
        return self.number

    def close(self) -> None:
        self._records.close()
        os.close(self._lock)

    def _stored(self, rows: Ints) -> Bytes:
        self._refuse_torn()
        return self._records.read(self.form.places(rows, self._folder))

    def _refuse_torn(self) -> None:
        if self._records.torn:
            raise LazyTableError(f"{self._folder}: a step was cut off; open the table again, at its last commit")

    def _restore(self) -> None:
        """Bring the work file to the last commit, if it isn't there."""
        mark = self._folder / _CLEAN
        if mark.exists() and mark.read_text(encoding="utf-8") == _mark(self.number):
            for rows in merged_rows(self._commits.runs(self.number)):
                self._records.know(self.form.places(rows, self._folder))
        else:
            mark.unlink(missing_ok=True)
            self._records.clear()
            for run in self._commits.runs(self.number):
                for rows, records in run.pieces():
                    self._records.write(self.form.places(rows, self._folder), records)
            self._mark_clean()
        self.note = self._commits.note()

    def _mark_clean(self) -> None:
        """Say that the file is as the commit; for as long as the machine runs, since the file is never synced."""
        try:
            (self._folder / _CLEAN).write_text(_mark(self.number), encoding="utf-8")
        except OSError:  # a full disk: without a mark, the next one makes the file again
            (self._folder / _CLEAN).unlink(missing_ok=True)


def remove_table(folder: Path) -> None:
    """Remove a closed table, and its folder unless something else lies there."""
    names = (FORM, _WORK, _CLEAN, _LOCK)
    for path in [*folder.glob("commit-*.rows"), *folder.glob(".*.partial"), *(folder / name for name in names)]:
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


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


def _same_form(folder: Path, form: TableForm) -> None:
    path = folder / FORM
    if not path.exists():
        write_durably(path, [form.to_json().encode()])
    elif (there := read_form(folder)) != form:
        raise LazyTableError(f"{path}: the table was made as {there}, not as {form}")
