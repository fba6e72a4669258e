"""Rows in ascending order with their records, read in pieces: what commits are made of, and merged from.

However many rows there are, no more than a piece of them is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exfm.models.lazy.records import Bytes, Ints

PIECE = 1 << 15
"""Rows that are held at a time, of all runs together."""
Piece = tuple[Ints, Bytes]


@dataclass(frozen=True)
class Run:
    """Different rows, ascending.

    Attributes:
        count: how many.
        rows: those from a place to another, int64 [.].
        records: and their records, uint8 [., size].
    """

    count: int
    rows: Callable[[int, int], Ints]
    records: Callable[[int, int], Bytes]

    @classmethod
    def of(cls, rows: Ints, stored: Callable[[Ints], Bytes]) -> "Run":
        """Rows in memory, whose records `stored` reads."""
        return cls(len(rows), lambda first, end: rows[first:end], lambda first, end: stored(rows[first:end]))

    @classmethod
    def in_file(cls, path: Path, start: int, count: int, size: int) -> "Run":
        """`count` rows, int64, at a place in a file, and behind them as many records of `size` bytes."""

        def rows(first: int, end: int) -> Ints:
            return np.fromfile(path, "<i8", end - first, offset=start + 8 * first)

        def records(first: int, end: int) -> Bytes:
            found = np.fromfile(path, np.uint8, size * (end - first), offset=start + 8 * count + size * first)
            return found.reshape(-1, size)

        return cls(count, rows, records)

    def pieces(self) -> Iterator[Piece]:
        """All of it, in its order."""
        for first in range(0, self.count, PIECE):
            end = min(first + PIECE, self.count)
            yield self.rows(first, end), self.records(first, end)


def merged_rows(runs: Sequence[Run]) -> Iterator[Ints]:
    """All rows of any run, each once, ascending."""
    for parts in _parts(runs):
        yield np.unique(np.concatenate([rows for rows, _ in parts]))


def merged_records(runs: Sequence[Run]) -> Iterator[Bytes]:
    """The records that belong to `merged_rows`, in the same pieces: of a row in several runs the latest run's."""
    for parts in _parts(runs):
        latest = [(rows, run.records(first, first + len(rows))) for run, (rows, first) in zip(runs, parts, strict=True)]
        _, chosen = np.unique(np.concatenate([rows for rows, _ in latest[::-1]]), return_index=True)
        yield np.concatenate([records for _, records in latest[::-1]])[chosen]


def _parts(runs: Sequence[Run]) -> Iterator[list[tuple[Ints, int]]]:
    """Of every run its rows up to a bound, and where they begin in it; then those up to a higher one."""
    places, share = [0] * len(runs), max(1, PIECE // max(1, len(runs)))
    heads = [run.rows(0, min(share, run.count)) for run in runs]
    while any(len(head) for head in heads):
        more = [head[-1] for run, place, head in zip(runs, places, heads, strict=True) if place + len(head) < run.count]
        bound = min(more, default=np.iinfo(np.int64).max)
        taken = [int(np.searchsorted(head, bound, side="right")) for head in heads]
        yield [(head[:count], place) for head, count, place in zip(heads, taken, places, strict=True)]
        for number, (run, count) in enumerate(zip(runs, taken, strict=True)):
            end = places[number] + len(heads[number])
            fresh = run.rows(end, min(end + count, run.count))
            places[number] += count
            heads[number] = np.concatenate([heads[number][count:], fresh])
