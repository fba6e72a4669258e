"""How fast rows are read out of a table on disk: from memory, and from the disk itself, measured on its own files."""

import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exfm.augment.planning.steps import Step, note, shown
from exfm.models.lazy.commits import header_of
from exfm.models.lazy.frozen import FrozenTable
from exfm.models.lazy.records import Ints

SAMPLE = 1 << 12
"""Rows that are read cold: of a table on a disk of 100 random reads a second, nearly a minute."""


@dataclass(frozen=True)
class DiskReads:
    """Of one process.

    Attributes:
        warm_rows_per_s: of rows whose pages are in memory.
        cold_rows_per_s: of rows whose pages are not.
        pages_per_row: pages that a cold row takes at most: its record's, and one of the index of each commit that is
            looked through, half of them in the mean.
    """

    warm_rows_per_s: float
    cold_rows_per_s: float
    pages_per_row: float

    def lookup_s(self, features: int, kept: float, steps: list[Step]) -> float:
        """Seconds of an example's lookups where a share `kept` of the table's pages is in memory.

        All rows that were learned count as equally likely, which is the worst: traffic that comes back to some of them
        finds these in memory.
        """
        cold = note(steps, "cold rows", f"{features} rows x {1 - kept:.3f}", features * (1 - kept), "")
        note(steps, "page faults", f"{shown(cold)} x {shown(self.pages_per_row)}", cold * self.pages_per_row, "")
        rates = f"{shown(self.warm_rows_per_s)}/s + {shown(cold)} / {shown(self.cold_rows_per_s)}/s"
        spent_s = (features - cold) / self.warm_rows_per_s + cold / self.cold_rows_per_s
        return note(steps, "lookup", f"{shown(features - cold)} / {rates}", spent_s * 1e6, "us") / 1e6


def measured_reads(table: FrozenTable, seconds: float) -> DiskReads:
    """Read rows that were learned, drawn at random: with their pages out of memory first, then again.

    The files' pages leave the machine's memory, unless another process has mapped them; a file system in memory has no
    cold rows.
    """
    rows = _learned(table.paths)
    for path in table.paths:
        _forget(path)
    cold_s = _spent(lambda: table.read(rows))
    warm: list[float] = []
    until_s = time.monotonic() + seconds
    while len(warm) < 3 or time.monotonic() < until_s:
        warm.append(_spent(lambda: table.read(rows)))
    pages = 1 + (table.form.size - 1) / mmap.PAGESIZE + (len(table.paths) + 1) / 2
    warm_s = sorted(warm)[len(warm) // 2]
    return DiskReads(len(rows) / warm_s, len(rows) / max(cold_s, warm_s), pages)


def _learned(paths: tuple[Path, ...]) -> Ints:
    """Rows of commits, each as likely as its share of them; row 0 if there are none."""
    draw, found = np.random.default_rng(0), list[Ints]()
    counts = [header_of(path)[0].rows for path in paths]
    for path, count in zip(paths, counts, strict=True):
        if count:
            some = draw.integers(0, count, -(-SAMPLE * count // sum(counts)))
            rows = np.memmap(path, "<i8", "r", header_of(path)[1], (count,))
            found.append(rows[np.sort(some)].copy())
    return draw.permutation(np.unique(np.concatenate(found))) if found else np.zeros(1, np.int64)


def _forget(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _spent(do: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    do()
    return max(time.perf_counter() - began_s, 1e-9)
