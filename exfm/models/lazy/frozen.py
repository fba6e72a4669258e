"""A table as of a commit, for reading only: what a snapshot of the teacher carries along.

It is made of hard links to the commits, which never change, so it costs no room and no time, and nothing that training
does can reach it; between file systems the commits are copied. Any number of processes map it and share the memory.
Each commit's rows ascend, so a row is found by bisection, in the latest commit that has it.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.models.lazy.commits import Commits, check_commit, header_of, write_durably
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import FORM, Floats, Table, read_form
from exfm.models.lazy.records import Bytes, Ints

_HOME = "tables"


class FrozenTable:
    """See `exfm.models.lazy.form.ReadTable`.

    Args:
        folder: as `freeze` makes it.

    Raises:
        LazyTableError: it is none, or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self.form, self._folder = read_form(folder), folder
        self.paths = tuple(_paths(folder))
        """Of its commits, oldest first in each part."""
        self._runs = [_Run.of(path, self.form.size) for path in reversed(self.paths)]

    def read(self, rows: Ints) -> tuple[Floats, Floats]:
        self.form.places(rows, self._folder)
        records = np.zeros((len(rows), self.form.size), np.uint8)
        order = np.argsort(rows)  # neighbours are found on the same pages
        for run in self._runs:
            found = run.find(rows[order])
            records[order[found >= 0]] = run.records[found[found >= 0]]
            order = order[found < 0]
        return self.form.split(rows, records)


@dataclass(frozen=True)
class _Run:
    """A commit in mapped memory: rows int64 [N] ascending, records uint8 [N, size]."""

    rows: NDArray[np.int64]
    records: Bytes

    @classmethod
    def of(cls, path: Path, size: int) -> "_Run":
        made, start = header_of(path)
        end = start + (8 + made.size) * made.rows
        if made.size != size or path.stat().st_size < end:
            raise LazyTableError(f"{path}: the commit is damaged, or of another table")
        if not made.rows:
            return cls(np.empty(0, np.int64), np.empty((0, size), np.uint8))
        body = np.memmap(path, np.uint8, "r", start, end - start)
        split = 8 * made.rows
        return cls(body[:split].view("<i8"), body[split:].reshape(made.rows, size))

    def find(self, rows: Ints) -> Ints:
        """Where int64 [N] rows stand among this commit's, -1 for those that don't."""
        if not len(self.rows):
            return np.full(len(rows), -1)
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, places, -1)


def freeze(table: Table, home: Path) -> bytes:
    """Keep what a table's last commit made of it under `home`, whatever it learns or commits later.

    Returns:
        Its digest, 32 bytes, by which `frozen_at` finds it.

    Raises:
        LazyTableError: there is no room, say.
    """
    with _filled(home) as aside:
        write_durably(aside / FORM, [table.form.to_json().encode()])
        for number, folder in enumerate(table.folders):
            for path in Commits(folder, table.form.size).paths():
                _link(path, aside / str(number) / path.name)
        return _digest(aside)


def hand_on(source: Path, target: Path, digest: bytes) -> None:
    """Give the frozen table of this digest under `source` to `target` too, each commit looked through for damage.

    Raises:
        LazyTableError: it is not there, or damaged; or there is no room.
    """
    place = frozen_at(source, digest)
    if source.resolve() == target.resolve():
        return
    form = read_form(place)
    with _filled(target) as aside:
        _link(place / FORM, aside / FORM)
        for path in _paths(place):
            check_commit(path, form.size)
            _link(path, aside / path.relative_to(place))


def thaw(place: Path, folders: Sequence[Path]) -> int:
    """Put a frozen table's commits into the folders of its parts, where nothing of a table may lie; the last's number.

    Raises:
        LazyTableError: it has other parts, or there is no room.
    """
    if sorted(each.name for each in place.iterdir() if each.is_dir()) != sorted(map(str, range(len(folders)))):
        raise LazyTableError(f"{place}: the table is not in {len(folders)} parts")
    paths = _paths(place)
    try:
        for path in paths:
            _link(path, folders[int(path.parent.name)] / path.name)
    except OSError as error:
        raise LazyTableError(f"{folders[0]}: the table was not brought back: {error.strerror}") from error
    return max(header_of(path)[0].number for path in paths)


def frozen_at(home: Path, digest: bytes) -> Path:
    """The folder of a frozen table; `LazyTableError` if it is not under `home`, or another one."""
    place = _place(home, digest)
    if not place.is_dir():
        raise LazyTableError(f"{place}: the table of this teacher is not there; it belongs beside its checkpoint")
    if _digest(place) != digest:
        raise LazyTableError(f"{place}: the table is another one's, or damaged")
    return place


def holds_frozen(home: Path) -> bool:
    """Whether there may be a frozen table under `home`."""
    return (home / _HOME).is_dir()


def remove_frozen(home: Path, digest: bytes) -> None:
    """Remove a frozen table, if it is there."""
    _remove(_place(home, digest))
    if holds_frozen(home) and not any((home / _HOME).iterdir()):
        (home / _HOME).rmdir()


def tidy_frozen(home: Path, keep: Collection[bytes]) -> None:
    """Remove all but the tables of some digests: what killed processes left under `home`, where nobody else writes."""
    kept = {_place(home, digest) for digest in keep}
    for left in (home / _HOME).glob("*"):
        if left not in kept:
            _remove(left)


def _place(home: Path, digest: bytes) -> Path:
    return home / _HOME / digest.hex()[:16]


def _paths(folder: Path) -> list[Path]:
    """Its commits, part by part, oldest first."""
    return sorted(folder.glob("*/commit-*.rows"))


def _digest(folder: Path) -> bytes:
    digest = hashlib.sha256((folder / FORM).read_bytes())
    for path in _paths(folder):
        digest.update(f"{path.relative_to(folder)} {header_of(path)[0]}\n".encode())
    return digest.digest()


@contextmanager
def _filled(home: Path) -> Iterator[Path]:
    """A folder to fill; then it lies under its digest, unless another one of this digest does already."""
    aside = home / _HOME / f".{os.getpid()}.partial"
    try:
        _remove(aside)
        aside.mkdir(parents=True)
        yield aside
        if not (place := _place(home, _digest(aside))).is_dir():
            aside.rename(place)
    except OSError as error:
        raise LazyTableError(f"{home / _HOME}: the table was not kept: {error.strerror or error}") from error
    finally:
        _remove(aside)


def _link(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        to.hardlink_to(path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, to)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
