"""Commits of a lazy table: each a file with the rows that were touched since the one before, and a note.

`commit-0000000001.rows` and so on; together, in their order, they are the table. A file that stands for all before it
says so (`base`), and those may go. A file is written aside, synced and renamed, so it is there whole or not at all. It
never changes afterwards: a hard link to it stays what it was.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from exfm.models.durable import sync
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.fields import count_in, fields_of
from exfm.models.lazy.runs import Run, merged_records, merged_rows

_MAGIC = b"EXLT1\n"
_START = 192
"""Where the content begins: room for any header, and a multiple of 64, so that it may be mapped and searched."""
_PIECE = 1 << 20
_PATTERN = "commit-*.rows"


@dataclass(frozen=True)
class Commit:
    """A file's header.

    Attributes:
        number: from 1, ascending.
        rows: how many.
        size: bytes of a record.
        base: it stands for all commits before it.
        checksum: CRC 32 of rows, records and note.
    """

    number: int
    rows: int
    size: int
    base: bool
    checksum: int


class Commits:
    """The commits in a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size

    def clean(self, number: int | None) -> None:
        """Remove what was never finished, and commits after `number`, if that is given: they don't count."""
        for left in self._folder.glob(".*.partial"):
            left.unlink()
        for path in self._folder.glob(_PATTERN):
            if number is not None and header_of(path)[0].number > number:
                path.unlink()

    def paths(self) -> list[Path]:
        """The files that count, oldest first."""
        found = sorted(self._folder.glob(_PATTERN))
        bases = [place for place, path in enumerate(found) if header_of(path)[0].base]
        return found[bases[-1] :] if bases else found

    def last(self) -> int:
        """The last commit's number; 0 if there is none."""
        paths = self.paths()
        return header_of(paths[-1])[0].number if paths else 0

    def hold_rows(self) -> bool:
        """Whether any row was committed."""
        return any(header_of(path)[0].rows for path in self.paths())

    def runs(self, last: int) -> list[Run]:
        """Up to the commit `last` what to put over each other, oldest first; `LazyTableError` if a file is damaged."""
        found = []
        for path in self.paths():
            check_commit(path, self._size)
            made, start = header_of(path)
            if made.number <= last:
                found.append(Run.in_file(path, start, made.rows, self._size))
        return found

    def note(self) -> bytes:
        """The last commit's note; empty if there is none."""
        return b"".join(self._note(path) for path in self.paths()[-1:])

    def _note(self, path: Path) -> bytes:
        made, start = header_of(path)
        with path.open("rb") as file:
            file.seek(start + (8 + self._size) * made.rows)
            return file.read()

    def write(self, number: int, runs: Sequence[Run], note: bytes, *, base: bool = False) -> None:
        """Write what runs come to as a commit, in place of one of this number.

        Raises:
            LazyTableError: there is none, all is as it was.
        """
        with written_durably(self._folder / f"commit-{number:010d}.rows") as file:
            file.write(bytes(_START))
            count, checksum = 0, 0
            for rows in merged_rows(runs):
                count, checksum = count + len(rows), _put(file, rows.astype("<i8").tobytes(), checksum)
            for records in merged_records(runs):
                checksum = _put(file, records.tobytes(), checksum)
            made = Commit(number, count, self._size, base, _put(file, note, checksum))
            file.seek(0)
            file.write(_head(made))

    def prune(self) -> None:
        """Remove the commits that a later one stands for; those that won't go are left for the next time."""
        for old in set(self._folder.glob(_PATTERN)) - set(self.paths()):
            with suppress(OSError):  # they don't count: nobody is the worse for it
                old.unlink()


def write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file whole or not at all, and for good; `LazyTableError`: nothing was written."""
    with written_durably(path) as file:
        file.writelines(parts)


@contextmanager
def written_durably(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is there whole and for good afterwards, or not at all and a `LazyTableError`."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise LazyTableError(f"{path}: {error.strerror or error}; nothing was committed") from error


def check_commit(path: Path, size: int) -> None:
    """`LazyTableError` if a commit of records of `size` bytes is damaged; takes no more memory than a piece of it."""
    made, start = header_of(path)
    value = 0
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    whole = path.stat().st_size >= start + (8 + size) * made.rows
    if made.size != size or value != made.checksum or not whole:
        raise LazyTableError(f"{path}: the commit is damaged, or of another table")


def header_of(path: Path) -> tuple[Commit, int]:
    """The header, and where the content begins; `LazyTableError` if this is no commit."""
    try:
        with path.open("rb") as file:
            if file.readline() != _MAGIC:
                raise LazyTableError(f"{path}: this is no commit of a lazy table")
            found, start = fields_of(path, file.readline()), file.tell()
    except LazyTableError:
        raise
    except OSError as error:
        raise LazyTableError(f"{path}: {error.strerror}") from error
    number, rows, size, checksum = (count_in(path, found, name) for name in ("number", "rows", "size", "checksum"))
    return Commit(number, rows, size, bool(found.get("base")), checksum), start


def _put(file: BinaryIO, plain: bytes, checksum: int) -> int:
    """Write some more; the checksum with it."""
    file.write(plain)
    return zlib.crc32(plain, checksum)


def _head(made: Commit) -> bytes:
    """The header's bytes, padded."""
    plain = _MAGIC + json.dumps(asdict(made)).encode()
    return plain.ljust(_START - 1) + b"\n"
