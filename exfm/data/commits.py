"""The commit log of an example stream: which files count, in which order, and up to where they came from.

One JSON object per line, appended and synced; a line that a crash cut off never counted.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from exfm.data.errors import DataError

COMMITS = "commits.jsonl"


@dataclass(frozen=True)
class StreamFile:
    """A Parquet file of a commit, its path relative to the stream's folder."""

    path: str
    rows: int


@dataclass(frozen=True)
class Commit:
    """What came into the stream in one step, or in its first steps together once retention has dropped them.

    Attributes:
        number: 1, 2, ...
        first_row: number of its first row; rows of the stream are numbered from 0 without gaps.
        rows: how many.
        position: offset of the log up to which everything is in the stream or dead.
        files: empty once retention has dropped them.
        snapshot: which teacher annotated it.
        dead: rows that could not be annotated, and
        dead_file: where they lie; empty if there are none.
        oldest_ms: the examples' earliest and
        newest_ms: latest time; both 0 without rows.
        counts: of the annotator; `lag_ms` is from when the oldest row came out of the join until this commit began.
    """

    number: int
    first_row: int
    rows: int
    position: int
    files: tuple[StreamFile, ...] = ()
    snapshot: str = ""
    dead: int = 0
    dead_file: str = ""
    oldest_ms: int = 0
    newest_ms: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def folded(cls, commits: Sequence["Commit"]) -> "Commit":
        """The first commits of a stream as one whose rows are gone: all sums stay, as does where it ends."""
        last, times = commits[-1], [time for each in commits if each.rows for time in (each.oldest_ms, each.newest_ms)]
        return replace(
            last,
            first_row=commits[0].first_row,
            rows=last.end_row - commits[0].first_row,
            files=(),
            dead=sum(each.dead for each in commits),
            dead_file="",
            oldest_ms=min(times, default=0),
            newest_ms=max(times, default=0),
            counts={**last.counts, "unsaid": sum(each.counts.get("unsaid", 0) for each in commits)},
        )

    @property
    def end_row(self) -> int:
        """Number of the row after its last one."""
        return self.first_row + self.rows

    def line(self) -> bytes:
        """The commit as it stands in the log."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


def read_commits(folder: Path) -> tuple[list[Commit], int]:
    """The commits of a stream, and how many bytes of the log they take; what follows is a torn line.

    Raises:
        DataError: a line in the middle is damaged, or the numbering has a gap.
    """
    path = folder / COMMITS
    commits: list[Commit] = []
    used = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        if not line.endswith(b"\n"):
            break
        commits.append(_parse(line, path, commits))
        used += len(line)
    return commits, used


def _parse(line: bytes, path: Path, before: list[Commit]) -> Commit:
    try:
        raw: dict[str, Any] = json.loads(line)
        made = Commit(**{**raw, "files": tuple(StreamFile(**each) for each in raw["files"])})
        numbers = (made.number, made.first_row, made.rows, made.position)
        if not all(isinstance(each, int) for each in numbers):
            raise TypeError("number, first_row, rows and position must be integers")
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"not a commit: {error}", path, line=len(before) + 1, row=len(before) + 1) from error
    if before and (made.number != before[-1].number + 1 or made.first_row != before[-1].end_row):
        problem = f"commit {made.number} from row {made.first_row} on cannot follow row {before[-1].end_row}"
        raise DataError(problem, path, row=len(before) + 1)
    return made
