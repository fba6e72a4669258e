"""Folders in which versions are written, on the repository's own file system; those of dead processes are cleared."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.durable import ASIDE, locked, make_folder, try_lock

PREFIX = ".staging-"


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A folder to write a version in; gone afterwards unless it was renamed into its place.

    Its lock tells other processes that somebody is still writing here; the kernel lets go of it when the process dies,
    however it dies.

    Raises:
        OSError: the repository cannot be written.
    """
    make_folder(repository)
    with locked(repository):
        clear(repository)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=repository))
        lock = try_lock(folder)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clear(repository: Path) -> None:
    """Remove what dead processes have left half done; the caller holds the repository's lock."""
    for folder in repository.glob(f"{PREFIX}*"):
        try:
            lock = try_lock(folder)
        except FileNotFoundError:  # its own process has just removed it
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    for pattern in (f"{ASIDE}*", f"*/{ASIDE}*"):
        for aside in repository.glob(pattern):
            aside.unlink(missing_ok=True)
