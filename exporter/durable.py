"""Writes that survive a crash: synced, and put in place in one step."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.progress import Count, uncounted
from exporter.tree import bytes_in, everything_in

ASIDE = ".aside-"
"""How the name of a file begins that was written and not yet put in place; one that nobody is writing is rubbish."""
FOR_ALL = 0o755
"""The mode of a folder that whoever serves, often another user, can read."""
_umask = threading.Lock()
"""The umask is the whole process's; whoever changes it holds this until it is back."""


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once, synced with its folder."""
    write_aside(path, content).replace(path)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those that lead to it, for everybody to read, whatever the umask: who serves is another user.

    What is there stays as it is. None is ever there that only its owner can read, not even if this process is killed.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        with _umask:
            before = os.umask(0o777 & ~FOR_ALL)
            try:
                path.mkdir(FOR_ALL)
            finally:
                os.umask(before)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(FOR_ALL)  # the folder above may set what those in it allow


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


def sync_tree(root: Path, count: Count = uncounted) -> None:
    """Sync every file and folder under `root`, and `root`; `count` gets the bytes of each file."""
    for path in everything_in(root):
        sync(path)
        count(bytes_in(path))
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


def try_lock(path: Path) -> int | None:
    """A folder's or a file's lock as an open file, which `os.close` gives back; None if a living process holds it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle
