"""Writes that survive a crash: synced, and put in place in one step."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE = ".aside-"
"""How the name of a file begins that was written and not yet put in place; one that nobody is writing is rubbish."""


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once, synced with its folder."""
    write_aside(path, content).replace(path)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder that everybody may read, whatever the umask, for who serves; one that is there stays as it is."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)


def write_aside(path: Path, content: bytes) -> Path:
    """Write and sync what shall become `path` beside it, for everybody to read; gone again if that fails."""
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        with aside.open("wb") as handle:
            os.fchmod(handle.fileno(), 0o644)
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def sync(path: Path) -> None:
    """Sync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Sync every file and folder under `root`, and `root`."""
    for path in root.rglob("*"):
        sync(path)
    sync(root)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for other processes that do."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def try_lock(folder: Path) -> int | None:
    """The folder's lock as an open file, which `os.close` gives back; None if a living process holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
