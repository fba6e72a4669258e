"""Back to an older version, and the end of those that nobody needs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.durable import locked, sync, try_lock, write_durably
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import CONFIG, MANIFEST, MARK, OWN_CONFIG, find_home, high_water, served_version, versions_in
from exporter.integrity import check_config, check_version, read_version
from exporter.progress import Watch, unwatched
from exporter.publish import REPLACES
from exporter.runner.aside import LOCKED
from exporter.signing import TrustedKeys, load_all_trusted
from exporter.staging import PREFIX, clear

_HELD = ("", LOCKED, MANIFEST)
"""What is locked of a version: the folder by the Triton that loads it, the files by those that run it, and by the
frontends that use it."""


@dataclass
class Pruned:
    """Versions by number: those that were removed or would be, and those that were not because a server uses them."""

    removed: list[int] = field(default_factory=list)
    in_use: list[int] = field(default_factory=list)


def rollback(
    repository: Path,
    vertical: str,
    to: int | None = None,
    trusted_keys: Path | None = None,
    watch: Watch = unwatched,
) -> tuple[int | None, int]:
    """Point config.pbtxt at another published version, by putting back the configuration that came with it.

    Args:
        repository: the model repository.
        vertical: which vertical.
        to: the version; None: the one that the served one replaced, for those between were rolled back themselves. If
            it is pruned: the newest before it.
        trusted_keys: folder of the keys whose versions count, besides the repository's own.
        watch: shows how much of the version is checked.

    Returns:
        The version served before, None if that could not be read, and the one served now.

    Raises:
        ExportRefusedError: there is no such version.
        VersionError: it is damaged or not signed as it must be.
        OSError: the repository cannot be written; what was served still is.
    """
    home = find_home(repository, vertical)
    with locked(repository):
        clear(repository)
        trusted = load_all_trusted(repository, trusted_keys)
        before = _served(home)
        number = _replaced(home, before, trusted) if to is None else to
        if number not in versions_in(home):
            known = ", ".join(map(str, versions_in(home)))
            raise ExportRefusedError(f"{home}: no version {number}; there are {known or 'none'}")
        version = check_version(home / str(number), trusted, watch)
        if OWN_CONFIG not in version.manifest["files"]:
            raise ExportRefusedError(f"{version.folder}: holds no {OWN_CONFIG} to put back; publish the model anew")
        content = (version.folder / OWN_CONFIG).read_bytes()
        check_config(content, version)
        write_durably(home / CONFIG, content)
    return before, number


def prune(repository: Path, vertical: str, keep: int, *, dry_run: bool = False) -> Pruned:
    """Remove all versions but the newest `keep`, the served one, and those that a server on this machine still uses.

    Their numbers are not given again. A crash leaves each version whole or gone.

    Raises:
        ExportRefusedError: there is no such vertical, or it is not clear what is served.
        OSError: the repository cannot be written.
    """
    home = find_home(repository, vertical)
    with locked(repository):
        clear(repository)
        served = served_version(home)
        if served is None:
            raise ExportRefusedError(f"{home}: no {CONFIG}, so it is not clear which version is in use")
        present = versions_in(home)
        doomed = [number for number in present if number not in (served, *present[-keep:])]
        if doomed and not dry_run and max(present) > high_water(home):
            write_durably(home / MARK, f"{max(present)}\n".encode())
        pruned = Pruned()
        for number in doomed:
            with _unused(home / str(number)) as unused:
                (pruned.removed if unused else pruned.in_use).append(number)
                if unused and not dry_run:
                    _remove(home / str(number), repository)
    return pruned


@contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Whether no server uses the version; meanwhile none can begin to."""
    with ExitStack() as stack:
        paths = [folder / name for name in _HELD if (folder / name).exists()]
        yield all(_takes(stack, path) for path in paths)


def _takes(stack: ExitStack, path: Path) -> bool:
    lock = try_lock(path)
    if lock is not None:
        stack.callback(os.close, lock)
    return lock is not None


def _remove(folder: Path, repository: Path) -> None:
    """Rename first, so that nobody sees a version that lacks files."""
    rubbish = repository / f"{PREFIX}removed-{folder.parent.name}-{folder.name}-{os.getpid()}"
    folder.rename(rubbish)
    sync(folder.parent)
    shutil.rmtree(rubbish, ignore_errors=True)


def _served(home: Path) -> int | None:
    """What is served, as far as it can be told: a broken config.pbtxt is a reason to roll back, not against it."""
    try:
        return served_version(home)
    except ExportRefusedError:
        return None


def _replaced(home: Path, served: int | None, trusted: TrustedKeys) -> int:
    """What to go back to from the served version: its manifest knows, be its other files damaged."""
    if served is None:
        raise ExportRefusedError(f"{home / CONFIG}: does not tell what is served; name the version with --to")
    try:
        manifest = read_version(home / str(served), trusted).manifest
    except VersionError as error:
        raise VersionError(f"{error}; so it cannot tell what it replaced: name the version with --to") from error
    last = manifest.get(REPLACES, served - 1)
    older = [number for number in versions_in(home) if isinstance(last, int) and number <= last]
    if not older:
        raise ExportRefusedError(f"{home}: there is no version before the served one, {served}")
    return older[-1]
