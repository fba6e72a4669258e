"""Records of one size in a sparse file: as many as one likes, and only those that were written take room.

A record that was never written reads as zeros, without a look at the file: some file systems would give it room. Reads
go through memory that is mapped with MADV_RANDOM, else each of them would fetch the device's whole read-ahead; writes
don't, since a full disk under a mapped write ends the process.
"""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.features.values import splitmix64
from exfm.models.lazy.errors import LazyTableError

_FILTER_BITS = 27
"""16 MB."""
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class SparseRecords:
    """`count` records of `size` bytes; one process writes.

    Raises:
        LazyTableError: the file can't be made, or is larger than the file system allows.
    """

    def __init__(self, path: Path, count: int, size: int) -> None:
        self._path, self._count, self._size = path, count, size
        self.torn = False
        """A step was neither done nor undone: only what was committed counts."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                os.ftruncate(self._file, count * size)
                self._map = mmap.mmap(self._file, count * size)
            except BaseException:
                os.close(self._file)
                raise
        except (OSError, ValueError, OverflowError) as error:
            raise LazyTableError(f"{path}: {count} records of {size} bytes: {_why(error)}") from error
        self._map.madvise(mmap.MADV_RANDOM)
        self._records = np.frombuffer(self._map, np.dtype((np.void, size)))
        self._written = np.zeros(1 << (_FILTER_BITS - 3), np.uint8)
        self._before: tuple[Ints, Bytes] = np.empty(0, np.int64), np.empty((0, size), np.uint8)

    @property
    def logical_bytes(self) -> int:
        """The file's size."""
        return self._count * self._size

    @property
    def real_bytes(self) -> int:
        """What it takes on the disk."""
        return os.fstat(self._file).st_blocks * 512

    def read(self, rows: Ints) -> Bytes:
        """uint8 [N, size]: the records of int64 [N] rows, each in [0, count)."""
        byte, bit = _places(rows)
        known = (self._written[byte] & bit) != 0
        found = np.zeros(len(rows), self._records.dtype)
        found[known] = self._records.take(rows[known])
        return found.view(np.uint8).reshape(len(rows), self._size)

    def know(self, rows: Ints) -> None:
        """These were written, before this object was made."""
        byte, bit = _places(rows)
        np.bitwise_or.at(self._written, byte, bit)

    def write(self, rows: Ints, records: Bytes) -> None:
        """Write records, uint8 [N, size], to different rows: all of them, or none.

        Raises:
            LazyTableError: the disk is full or broken, and the records are as they were.
        """
        before, written = self.read(rows), 0
        try:
            for row, record in zip(rows.tolist(), np.ascontiguousarray(records), strict=True):
                written += (now := os.pwrite(self._file, record, row * self._size))
                if now < self._size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._undo(rows, before, written)
            raise LazyTableError(f"{self._path}: {_why(error)}; the step was undone") from error
        self._before = rows, before
        self.know(rows)

    def undo(self) -> None:
        """Put the records of the last `write` back as they were; `LazyTableError` if the disk is broken."""
        self._undo(*self._before, len(self._before[0]) * self._size)

    def clear(self) -> None:
        """Let all records be zeros again."""
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, self._count * self._size)
        self._written[:] = 0

    def close(self) -> None:
        """Let go of the file."""
        del self._records
        self._map.close()
        os.close(self._file)

    def _undo(self, rows: Ints, before: Bytes, written: int) -> None:
        """Put the first `written` bytes back as they were: they have their room on the disk already."""
        whole, part = divmod(written, self._size)
        try:
            for row, record in zip(rows[:whole].tolist(), before[:whole], strict=True):
                os.pwrite(self._file, record, row * self._size)
            if part:
                os.pwrite(self._file, before[whole, :part].tobytes(), int(rows[whole]) * self._size)
        except OSError as error:
            self.torn = True
            raise LazyTableError(f"{self._path}: {_why(error)}; open the table again, at its last commit") from error


def _places(rows: Ints) -> tuple[NDArray[np.uint64], Bytes]:
    """Byte and bit of each row in the filter of written rows; rows that share one cost a look, nothing else."""
    hashed = splitmix64(rows.astype(np.uint64)) >> np.uint64(64 - _FILTER_BITS)
    return hashed >> np.uint64(3), np.uint8(1) << (hashed & np.uint64(7)).astype(np.uint8)


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
