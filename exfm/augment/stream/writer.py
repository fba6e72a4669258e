"""Writing an example stream: files first, then the commit that makes them count. One writer at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from exfm.data.annotated import STREAM, StreamForm, StreamReader
from exfm.data.chunks import day_of
from exfm.data.commits import COMMITS, Commit, StreamFile, read_commits
from exfm.data.cursor import lowest_cursor
from exfm.data.errors import DataError
from exfm.models.durable import sync

DEAD = "dead"


class StreamError(Exception):
    """The stream can't be written: another writer has it, it is of another form, or the disk refuses."""


class StreamWriter:
    """Appends to one stream.

    Args:
        folder: made if it is not there.
        form: what the rows are like; must be that of an existing stream.
    """

    def __init__(self, folder: Path, form: StreamForm) -> None:
        with _translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self._folder = folder
            try:
                _lock(self._lock, folder)
                commits, used = self._begin(form)
            except BaseException:
                os.close(self._lock)
                raise
            self._log = (folder / COMMITS).open("ab", buffering=0)
            self._used = used
        self.last = commits[-1] if commits else Commit(0, 0, 0, 0)
        """The last commit; number 0 in an empty stream."""
        self._sweep(commits)

    def _begin(self, form: StreamForm) -> tuple[list[Commit], int]:
        folder = self._folder
        if (folder / STREAM).exists():
            _refuse_other(StreamReader(folder).form, form, folder)
        else:
            _replace(folder / STREAM, form.to_json().encode())
        return read_commits(folder)

    def append(
        self,
        table: pa.Table,
        position: int,
        *,
        snapshot: str,
        dead: bytes = b"",
        dead_rows: int = 0,
        counts: dict[str, int] | None = None,
    ) -> Commit:
        """Add rows and move on to an offset of the log, in one step.

        Args:
            table: the stream's columns but `row`; may be empty.
            position: the offset up to which everything is now in the stream or dead.
            snapshot: who annotated.
            dead: what could not be annotated, as a file's content.
            dead_rows: how many rows that is.
            counts: what else became of rows.

        Raises:
            StreamError: nothing counts; the same call may succeed later.
        """
        number, first_row = self.last.number + 1, self.last.end_row
        numbered = table.append_column("row", pa.array(np.arange(first_row, first_row + len(table))))
        times = table.column("time_ms").to_numpy()
        span = (int(times.min()), int(times.max())) if len(table) else (0, 0)
        with _translated(self._folder):
            files = tuple(self._write(numbered, times, number)) if len(table) else ()
            dead_file = self._write_dead(dead, number) if dead else ""
            made = Commit(
                number, first_row, len(table), position, files, snapshot, dead_rows, dead_file, *span, counts or {}
            )
            self._enter(made.line())
        self.last = made
        return made

    def drop_before(self, time_ms: int) -> int:
        """Retention: drop the first commits with their dead rows, if all is older and read by every cursor.

        One commit with their sums stands in their place.

        Returns:
            How many rows went; their numbers stay taken.

        Raises:
            StreamError: nothing went; a cursor or the stream can't be read, or the disk refuses.
        """
        try:
            commits, _ = read_commits(self._folder)
            old = _leading(commits, time_ms, lowest_cursor(self._folder, self.last.end_row))
        except (DataError, OSError) as error:
            raise StreamError(f"{self._folder}: {error}") from error
        gone = [each for each in commits[:old] if each.files or each.dead_file]
        if not gone:
            return 0
        kept = [Commit.folded(commits[:old]), *commits[old:]]
        with _translated(self._folder):
            _replace(self._folder / COMMITS, b"".join(each.line() for each in kept))
            self._log.close()
            self._log = (self._folder / COMMITS).open("ab", buffering=0)
            self._used, self.last = self._log.tell(), kept[-1]
            for path in [self._folder / path for each in gone for path in _paths(each)]:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # other commits' files are in it
                    path.parent.rmdir()
        return sum(each.rows for each in gone if each.files)

    def close(self) -> None:
        """Let another writer have it."""
        self._log.close()
        os.close(self._lock)

    def _enter(self, line: bytes) -> None:
        self._log.truncate(self._used)  # what a failed try left
        if self._log.write(line) != len(line):
            raise OSError(errno.ENOSPC, "the commit log takes no more")
        os.fsync(self._log.fileno())
        self._used += len(line)

    def _write(self, table: pa.Table, times: Any, number: int) -> Iterator[StreamFile]:
        days = day_of(times)
        for day in np.unique(days):
            part = table.filter(pa.array(days == day))
            name = np.datetime_as_string(np.datetime64(int(day), "D"))
            path = Path(f"day={name}") / f"part-{number:010d}.parquet"
            (self._folder / path.parent).mkdir(exist_ok=True)
            aside = self._folder / path.with_suffix(".partial")
            pa_parquet.write_table(part, aside, compression="zstd", compression_level=1)
            sync(aside)
            aside.replace(self._folder / path)
            sync((self._folder / path).parent)
            yield StreamFile(str(path), len(part))

    def _write_dead(self, content: bytes, number: int) -> str:
        path = Path(DEAD) / f"dead-{number:010d}.jsonl"
        (self._folder / DEAD).mkdir(exist_ok=True)
        _replace(self._folder / path, content)
        return str(path)

    def _sweep(self, commits: list[Commit]) -> None:
        """Remove what a crash left: files that no commit names."""
        named = {path for each in commits for path in _paths(each)}
        for path in [*self._folder.glob("day=*/*"), *self._folder.glob(f"{DEAD}/*"), *self._folder.glob("*/*.partial")]:
            if str(path.relative_to(self._folder)) not in named:
                path.unlink(missing_ok=True)


def _paths(commit: Commit) -> list[str]:
    """Its files, the dead rows' among them."""
    return [each.path for each in commit.files] + ([commit.dead_file] if commit.dead_file else [])


def _leading(commits: Sequence[Commit], time_ms: int, unread: int) -> int:
    """How many commits at the beginning are older and were read; one without rows is as old as the next with some."""
    old = 0
    for place, each in enumerate(commits, 1):
        if each.rows and (each.newest_ms >= time_ms or each.end_row > unread):
            break
        if each.rows:
            old = place
    return old


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StreamError(f"{folder}: another process writes this stream") from error


def _refuse_other(there: StreamForm, form: StreamForm, folder: Path) -> None:
    same = there.schema.digest == form.schema.digest and there.schema.tasks == form.schema.tasks
    if not same or (there.dimension, there.codec) != (form.dimension, form.codec):
        raise StreamError(f"{folder}: the stream was made for another schema or another kind of embedding")


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)
    sync(path.parent)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StreamError(f"{folder}: {error}") from error
