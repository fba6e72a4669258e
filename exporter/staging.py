"""Folders in which versions are written, on the repository's own file system; those of dead processes are cleared."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.durable import ASIDE, locked, make_folder, try_lock
from exporter.errors import VersionError
from exporter.home import CONFIG, parse_config, versions_in

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
    """Remove what dead processes have left half done; the caller holds the repository's lock.

    A first publication that was killed right before its end leaves a whole version that no config.pbtxt names yet. Its
    own lies aside, and stays there: it tells this from a vertical that has lost its configuration.
    """
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
            if not _is_first(aside):
                aside.unlink(missing_ok=True)


def _is_first(aside: Path) -> bool:
    """Whether it is the configuration of the one version that lies there, the first that its vertical was to have."""
    home = aside.parent
    if aside.name != f"{ASIDE}{CONFIG}" or (home / CONFIG).exists():
        return False
    try:
        versions = parse_config(aside.read_bytes()).version_policy.specific.versions
    except (OSError, VersionError):
        return False
    return len(versions) == 1 and versions_in(home) == list(versions)
