"""Commits of a lazy table: each a file with the rows that were touched since the one before, and a note.

`commit-0000000001.rows` and so on; together, in their order, they are the table. A file that stands for all before it
says so (`base`), and those may go. A file is written aside, synced and renamed, so it is there whole or not at all. It
never changes afterwards: a hard link to it stays what it was.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.records import Bytes, Ints

_MAGIC = b"EXLT1\n"
_ALIGNED = 64
"""The content begins at a multiple of this, so that it may be mapped and searched as it lies."""
_PIECE = 1 << 24
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


@dataclass(frozen=True)
class Content:
    """What a commit holds: different rows int64 [N], their records uint8 [N, size], and the caller's own bytes."""

    rows: Ints
    records: Bytes
    note: bytes


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

    def read(self) -> Iterator[Content]:
        """What to put over each other, oldest first; `LazyTableError` if a file is damaged."""
        for path in self.paths():
            yield read_commit(path, self._size)

    def note(self) -> bytes:
        """The last commit's note; empty if there is none."""
        return b"".join(read_commit(path, self._size).note for path in self.paths()[-1:])

    def rows(self) -> Ints:
        """All rows that some commit holds, ascending."""
        found = [content.rows for content in self.read()]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def write(self, number: int, content: Content, *, base: bool = False) -> None:
        """Write a commit, in place of one of this number; `LazyTableError`: there is none, all is as it was."""
        parts = [content.rows.astype("<i8").tobytes(), content.records.tobytes(), content.note]
        made = Commit(number, len(content.rows), self._size, base, _checksum(parts))
        write_durably(self._folder / f"commit-{number:010d}.rows", [_head(made), *parts])

    def prune(self) -> None:
        """Remove the commits that a later one stands for."""
        for old in set(self._folder.glob(_PATTERN)) - set(self.paths()):
            old.unlink()


def write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file whole or not at all, and for good; `LazyTableError`: nothing was written."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise LazyTableError(f"{path}: {error.strerror}; nothing was committed") from error


def read_commit(path: Path, size: int) -> Content:
    """A commit of records of `size` bytes; `LazyTableError` if it is damaged."""
    made, start = header_of(path)
    body = path.read_bytes()[start:]
    split = 8 * made.rows, (8 + size) * made.rows
    if made.size != size or len(body) < split[1] or zlib.crc32(body) != made.checksum:
        raise LazyTableError(f"{path}: the commit is damaged, or of another table")
    rows = np.frombuffer(body, "<i8", made.rows)
    records = np.frombuffer(body, np.uint8, size * made.rows, split[0]).reshape(made.rows, size)
    return Content(rows, records, body[split[1] :])


def check_commit(path: Path, size: int) -> None:
    """`LazyTableError` if a commit of records of `size` bytes is damaged; takes no more memory than a piece of it."""
    made, start = header_of(path)
    value = 0
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    if made.size != size or value != made.checksum:
        raise LazyTableError(f"{path}: the commit is damaged, or of another table")


def header_of(path: Path) -> tuple[Commit, int]:
    """The header, and where the content begins; `LazyTableError` if this is no commit."""
    try:
        with path.open("rb") as file:
            if file.readline() != _MAGIC:
                raise LazyTableError(f"{path}: this is no commit of a lazy table")
            return Commit(**json.loads(file.readline())), file.tell()
    except (OSError, ValueError, TypeError) as error:
        raise LazyTableError(f"{path}: {error}") from error


def _head(made: Commit) -> bytes:
    """The header's bytes, padded."""
    plain = json.dumps(asdict(made)).encode()
    return _MAGIC + plain + b" " * (-(len(_MAGIC) + len(plain) + 1) % _ALIGNED) + b"\n"


def _checksum(parts: list[bytes]) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
