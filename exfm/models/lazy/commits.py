"""Commits of a lazy table: each a file with the rows that were touched since the one before, and a note.

`commit-0000000001.rows` and so on; together, in their order, they are the table. A file that stands for all before it
says so (`base`), and those go. A file is written aside, synced and renamed, so it is there whole or not at all.
"""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.records import Bytes, Ints

_MAGIC = b"EXLT1\n"
_PATTERN = "commit-*.rows"


@dataclass(frozen=True)
class Commit:
    """A file's header.

    Attributes:
        number: from 1.
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
        for left in folder.glob(".*.partial"):
            left.unlink()

    def paths(self) -> list[Path]:
        """The files that count, oldest first."""
        found = sorted(self._folder.glob(_PATTERN))
        bases = [place for place, path in enumerate(found) if _header(path)[0].base]
        return found[bases[-1] :] if bases else found

    def last(self) -> int:
        """The last commit's number; 0 if there is none."""
        paths = self.paths()
        return _header(paths[-1])[0].number if paths else 0

    def read(self) -> Iterator[Content]:
        """What to put over each other, oldest first; `LazyTableError` if a file is damaged."""
        for path in self.paths():
            yield self._read(path)

    def note(self) -> bytes:
        """The last commit's note; empty if there is none."""
        return b"".join(self._read(path).note for path in self.paths()[-1:])

    def rows(self) -> Ints:
        """All rows that some commit holds, ascending."""
        found = [content.rows for content in self.read()]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def add(self, content: Content, *, base: bool = False) -> int:
        """Write the next commit; its number. `LazyTableError`: there is none, all is as it was."""
        number = self.last() + 1
        path = self._folder / f"commit-{number:010d}.rows"
        aside = self._folder / f".{path.name}.partial"
        parts = [content.rows.astype("<i8").tobytes(), content.records.tobytes(), content.note]
        made = Commit(number, len(content.rows), self._size, base, _checksum(parts))
        try:
            with aside.open("wb") as file:
                file.write(_MAGIC + json.dumps(asdict(made)).encode() + b"\n")
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            _sync(self._folder)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise LazyTableError(f"{path}: {error.strerror}; nothing was committed") from error
        if base:
            for old in set(self._folder.glob(_PATTERN)) - {path}:
                old.unlink()
        return number

    def _read(self, path: Path) -> Content:
        made, start = _header(path)
        body = path.read_bytes()[start:]
        split = 8 * made.rows, (8 + self._size) * made.rows
        if made.size != self._size or len(body) < split[1] or zlib.crc32(body) != made.checksum:
            raise LazyTableError(f"{path}: the commit is damaged, or of another table")
        rows = np.frombuffer(body, "<i8", made.rows)
        records = np.frombuffer(body, np.uint8, self._size * made.rows, split[0]).reshape(made.rows, self._size)
        return Content(rows, records, body[split[1] :])


def _header(path: Path) -> tuple[Commit, int]:
    """The header, and where the content begins."""
    try:
        with path.open("rb") as file:
            if file.readline() != _MAGIC:
                raise LazyTableError(f"{path}: this is no commit of a lazy table")
            return Commit(**json.loads(file.readline())), file.tell()
    except (OSError, ValueError, TypeError) as error:
        raise LazyTableError(f"{path}: {error}") from error


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
