"""Whether a published version is whole and by whom it was made."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from exporter.errors import VersionError
from exporter.home import CONFIG, MANIFEST, OWN_CONFIG, SIGNATURE, read_config, version_named
from exporter.progress import CHECKED, Count, Watch, uncounted, unwatched
from exporter.signing import SignatureState, TrustedKeys
from exporter.tree import everything_in, size_of

FORMAT = 1
MADE_LATER = "made_later"
"""Entry of the manifest: files that only the machine that serves can make, so that nobody vouches for them here."""
_CHUNK = 1 << 20
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Version:
    """A published version, as far as it was checked.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        signature: who vouches for the manifest.
    """

    folder: Path
    manifest: Mapping[str, Any]
    signature: SignatureState

    @property
    def number(self) -> int:
        return int(self.folder.name)


def read_version(folder: Path, trusted: TrustedKeys) -> Version:
    """The manifest of a version folder, its signature checked; the other files are not read.

    Raises:
        VersionError: there is no such version, it can't be read, or the manifest is not what a trusted key has signed.
    """
    path = folder / MANIFEST
    try:
        with _readable(folder):
            content = path.read_bytes()
            signature = (folder / SIGNATURE).read_bytes() if (folder / SIGNATURE).exists() else None
    except FileNotFoundError as error:
        raise VersionError(f"{folder}: no complete version, no {MANIFEST}") from error
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise VersionError(f"{path}: not a manifest") from error
    try:
        state = trusted.check(content, signature)
    except VersionError as error:
        raise VersionError(f"{folder}: {error}") from error
    expected = {"format": FORMAT, "vertical": folder.parent.name, "version": int(folder.name)}
    for key, value in expected.items():
        found = manifest.get(key) if isinstance(manifest, dict) else None
        if found != value:
            raise VersionError(f"{path}: {key} is {found!r}, not {value!r}")
    return Version(folder, manifest, state)


def check_version(folder: Path, trusted: TrustedKeys, watch: Watch = unwatched) -> Version:
    """Read a version and every file of it: what the manifest lists must be there unchanged, and nothing else.

    Raises:
        VersionError: naming the first file that is missing, changed or unlisted, or the file or folder that can't be
            read.
    """
    try:
        with _readable(folder):
            return _check_files(read_version(folder, trusted), watch)
    except FileNotFoundError as error:
        raise VersionError(f"{error.filename}: was removed while it was read") from error


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Nobody vouches for what can't be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VersionError(f"{error.filename or folder}: {error.strerror}, so nobody vouches for it") from error


def _check_files(version: Version, watch: Watch) -> Version:
    folder = version.folder
    listed = version.manifest.get("files")
    if not isinstance(listed, dict):
        raise VersionError(f"{folder / MANIFEST}: lists no files")
    present = {path.relative_to(folder).as_posix() for path in everything_in(folder) if not _is_real_folder(path)}
    if extra := sorted(present - set(listed) - {MANIFEST, SIGNATURE} - set(made_later(version.manifest))):
        raise VersionError(f"{folder / extra[0]}: not in the manifest")
    with watch(CHECKED, size_of(folder / name for name in present & set(listed))) as count:
        for name, digest in sorted(listed.items()):
            path = folder / PurePosixPath(name)
            if name not in present or not path.is_file() or path.is_symlink():
                raise VersionError(f"{path}: missing, or not a plain file; the manifest lists it")
            if (found := sha256_of(path, count)) != digest:
                raise VersionError(f"{path}: sha256 is {found[:12]}…, the manifest says {str(digest)[:12]}…")
    return version


def made_later(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the files in its folder that a manifest leaves to the machine that serves."""
    names = manifest.get(MADE_LATER)
    return [str(name) for name in names] if isinstance(names, list) else []


def check_served(home: Path, trusted: TrustedKeys, watch: Watch = unwatched) -> Version | None:
    """The version that is served, every file of it read, and config.pbtxt; None without that file.

    Another version may be published meanwhile and this one pruned: what is found is then held against nothing, and
    the new one is read.

    Raises:
        VersionError: as `check_version` and `check_config`.
    """
    while (content := read_config(home)) is not None:
        try:
            version = check_version(home / str(version_named(home, content)), trusted, watch)
            check_config(content, version)
        except VersionError:
            if content == read_config(home):
                raise
        else:
            return version
    return None


def check_config(content: bytes, version: Version) -> None:
    """Hold the bytes of config.pbtxt against those that were published with the version that they name.

    Raises:
        VersionError: it was changed since, or the version brought none.
    """
    digest = version.manifest.get("files", {}).get(OWN_CONFIG)
    if digest is None:
        raise VersionError(f"{version.folder}: holds no {OWN_CONFIG}; publish the model anew")
    if hashlib.sha256(content).hexdigest() != digest:
        path = version.folder.parent / CONFIG
        raise VersionError(f"{path}: changed since version {version.number} was published")


def hashes_of(folder: Path, count: Count = uncounted) -> dict[str, str]:
    """sha256 in hex of each file under `folder` but the manifest and its signature, by its path within it.

    Raises:
        OSError: a file or folder can't be read.
    """
    own = (folder / MANIFEST, folder / SIGNATURE)
    files = sorted(path for path in everything_in(folder) if path.is_file() and path not in own)
    return {path.relative_to(folder).as_posix(): sha256_of(path, count) for path in files}


def sha256_of(path: Path, count: Count = uncounted) -> str:
    """In hex; `count` gets the bytes as they are read."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as handle:
        while size := handle.readinto(buffer):
            digest.update(buffer[:size])
            count(size)
    return digest.hexdigest()


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
