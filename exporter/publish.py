"""The moment of publication: a sealed folder gets its number, then config.pbtxt names it."""

import contextlib
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from exporter.durable import FOR_ALL, locked, make_folder, sync, write_aside, write_durably
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import CONFIG, MARK, next_version, served_version, versions_in
from exporter.package import seal
from exporter.progress import Watch, unwatched
from exporter.signing import Signer, TrustedKeys, load_all_trusted

REPLACES = "replaces"
"""Entry of the manifest: the version that was served when this one was published; null, if none was."""


@dataclass(frozen=True)
class Publication:
    """What a staged version becomes.

    Attributes:
        vertical: whose version it is.
        manifest: all of the manifest but the number and the files' hashes.
        config: its `ModelConfig`; the version's number is entered at publication.
        signer: who vouches for it; None: nobody.
        trusted_keys: folder of the keys whose versions count, besides the repository's own.
    """

    vertical: str
    manifest: Mapping[str, Any]
    config: Any
    signer: Signer | None = None
    trusted_keys: Path | None = None


def publish(
    staged: Path,
    repository: Path,
    publication: Publication,
    guard: Callable[[Path], Mapping[str, Any]] = lambda _: {},
    watch: Watch = unwatched,
) -> Path:
    """Give a staged version the next number and put it in place, then point config.pbtxt at it.

    A crash at any moment leaves the repository with the old configuration, which names the old version, or the new one.
    So does an error, and it takes back what was put in place. Keys count as they are now, whatever they were when the
    export began.

    Args:
        staged: the folder that `exporter.staging` gave, all files but configuration and manifest in it.
        repository: the model repository.
        publication: what it becomes.
        guard: called with the vertical's home under the repository's lock, when nothing can change any more what is
            served; may still refuse. Returns entries of the manifest as they are by then.
        watch: shows how much is hashed and synced.

    Returns:
        The version's folder.

    Raises:
        ExportRefusedError: keys are trusted, by the repository or the folder named, and the signer's is not one of
            them; or by `guard`.
        OSError: the repository cannot be written.
    """
    home = repository / publication.vertical
    with locked(repository):
        check_signer(load_all_trusted(repository, publication.trusted_keys), publication.signer)
        manifest = {**publication.manifest, **guard(home)}
        new = not home.exists()
        _make_home(home)
        try:
            return _place(staged, home, replace(publication, manifest=manifest), watch)
        except BaseException:
            if new and not (home / CONFIG).exists():
                shutil.rmtree(home, ignore_errors=True)
            raise


def _make_home(home: Path) -> None:
    """Make it, or open it for those who serve if it is as yet nobody's: a killed process may have left it closed."""
    make_folder(home)
    if not (home / CONFIG).exists() and not versions_in(home):
        with contextlib.suppress(PermissionError):  # somebody else's
            home.chmod(stat.S_IMODE(home.stat().st_mode) | FOR_ALL)


def check_signer(trusted: TrustedKeys, signer: Signer | None) -> None:
    """Refuse a signer whose versions nobody would take.

    Raises:
        ExportRefusedError: keys are trusted, and the signer's is not one of them; it names the folder.
    """
    for each in trusted.sets:
        if each.keys and (signer is None or signer.key_id not in each.keys):
            whose = "no signing key was given" if signer is None else f"not the signing key {signer.key_id}"
            raise ExportRefusedError(f"{each.place} trusts {', '.join(sorted(each.keys))}, {whose}")


def pinned_to(config: Any, version: int) -> bytes:
    """The bytes of a config.pbtxt that names this version and no other."""
    own = type(config)()
    own.CopyFrom(config)
    own.version_policy.specific.versions[:] = [version]
    return text_format.MessageToString(own).encode()


def _replaced(home: Path) -> int | None:
    """What is served now; None if nothing is, or nothing that can be told."""
    try:
        return served_version(home)
    except VersionError:
        return None


def _place(staged: Path, home: Path, publication: Publication, watch: Watch) -> Path:
    version = next_version(home)
    config = pinned_to(publication.config, version)
    manifest = {**publication.manifest, REPLACES: _replaced(home)}
    seal(staged, version, config, manifest, publication.signer, watch=watch)
    write_durably(home / MARK, f"{version}\n".encode())
    # All that needs room on the disk is written before anything can be seen.
    aside = write_aside(home / CONFIG, config)
    place = home / str(version)
    try:
        staged.rename(place)
        sync(home)
        aside.replace(home / CONFIG)
    except BaseException:
        if aside.exists():  # the configuration does not name the new version
            with contextlib.suppress(OSError):
                place.rename(staged)
            aside.unlink(missing_ok=True)
        raise
    sync(home)
    sync(home.parent)
    return place
