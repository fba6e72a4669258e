"""One published version's folder: whether it is whole, by whom it was made, and what Triton is told of it."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving.errors import RepositoryError
from serving.signature import MANIFEST, SIGNATURE, check_signature

CONFIG = "config.pbtxt"
OWN_CONFIG = "published.pbtxt"
"""In a version's folder: the config.pbtxt that it was published with, covered by its manifest like every other file."""


@dataclass(frozen=True)
class Version:
    """A version whose files are those that its manifest lists."""

    folder: Path
    manifest: Mapping[str, Any]


def open_version(folder: Path, keys: tuple[Path, ...], needed: Sequence[str]) -> Version:
    """Check every file of a version.

    Args:
        folder: where it lies.
        keys: files of the keys that count; none: anybody's versions do.
        needed: files that it must have, besides those that its manifest lists.

    Raises:
        RepositoryError: naming the first file that is missing, changed or unlisted, or that no trusted key has signed.
        OSError: something can't be read.
    """
    content = _manifest_bytes(folder)
    check_signature(folder, content, keys)
    manifest = _parse(folder / MANIFEST, content)
    files = manifest["files"]
    if lacks := [name for name in (*needed, OWN_CONFIG) if name not in files]:
        raise RepositoryError(f"{folder / MANIFEST}: lists no {lacks[0]}; publish the model anew")
    _verify(folder, files)
    return Version(folder, manifest)


def check_config(home: Path, content: bytes, version: Version) -> None:
    """Hold the bytes of config.pbtxt against those that were published with the version it names.

    Raises:
        RepositoryError: it was changed since.
    """
    if hashlib.sha256(content).hexdigest() != version.manifest["files"][OWN_CONFIG]:
        raise RepositoryError(
            f"{home / CONFIG}: changed since version {version.folder.name} was published; "
            f"exfm-export rollback {home.name} --to {version.folder.name} puts it back"
        )


def own_config(folder: Path) -> Any:
    """The `ModelConfig` that a version was published with.

    Raises:
        RepositoryError: it isn't the one that the manifest lists.
        OSError: it can't be read.
    """
    path, manifest = folder / OWN_CONFIG, _parse(folder / MANIFEST, _manifest_bytes(folder))
    content = path.read_bytes()
    _same(path, hashlib.sha256(content).hexdigest(), str(manifest["files"].get(OWN_CONFIG)))
    return parse_config(path, content)


def parse_config(path: Path, content: bytes) -> Any:
    """The `ModelConfig` that these bytes of a file spell; `RepositoryError` if they spell none."""
    try:
        return text_format.Parse(content.decode(), model_config_pb2.ModelConfig())
    except (ValueError, text_format.ParseError, RecursionError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}") from error


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise RepositoryError(f"{folder}: incomplete, no {MANIFEST}, and it is to be served") from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
        if manifest["format"] != 1:
            raise RepositoryError(f"{path}: format {manifest['format']!r} is unknown; this server reads format 1")
        whole = {"files": {}, **manifest}
        if not isinstance(whole["files"], dict):
            raise TypeError("files")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RepositoryError(f"{path}: not a manifest: {error!r}") from error
    return whole


def _verify(folder: Path, hashes: Mapping[str, str]) -> None:
    present = _present(folder)
    for name, digest in hashes.items():
        path = folder / name
        if name not in present:
            raise RepositoryError(f"{folder}: incomplete, no {name}, and it is to be served")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise RepositoryError(f"{path}: not a plain file")
        with path.open("rb") as file:
            _same(path, hashlib.file_digest(file, "sha256").hexdigest(), str(digest))
    # A file that the manifest doesn't know may still be imported by the runner, from behind a linked folder as well.
    if extra := sorted(present - {*hashes, MANIFEST, SIGNATURE}):
        raise RepositoryError(f"{folder / extra[0]}: {MANIFEST} doesn't list it")


def _same(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise RepositoryError(f"{path}: sha256 is {found[:12]}…, the manifest says {wanted[:12]}…")


def _present(folder: Path) -> set[str]:
    """Whatever is no real folder, by its path in this one: files, links to files and to folders, and the rest."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    found: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found.update(os.path.relpath(os.path.join(place, name), folder) for name in (*files, *links))
    return found
