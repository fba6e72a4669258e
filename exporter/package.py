"""A version folder: written aside, synced, renamed into place; immutable from then on."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import exfm
import exfm.features
import exporter.runner
from exfm.features.schema import Schema
from exporter.configure import Batching, model_config, write_config
from exporter.durable import locked, sync, sync_tree, write_durably

MANIFEST = "manifest.json"


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A folder to write a version in, on the repository's own file system; gone afterwards if it was not published."""
    repository.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=repository))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_parts(folder: Path, schema: Schema, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Put everything but the graph and the manifest into a staged version.

    Args:
        folder: the staged version.
        schema: the vertical's own schema.
        arrays: per file stem the arrays of its `.npz`.
    """
    (folder / "schema.json").write_text(json.dumps(schema.to_dict(), indent=1), encoding="utf-8")
    for stem, content in arrays.items():
        named: dict[str, Any] = dict(content)
        np.savez(folder / f"{stem}.npz", **named)
    shutil.copyfile(_folder_of(exporter.runner) / "model.py", folder / "model.py")
    shutil.copytree(_folder_of(exfm.features), folder / "exfm" / "features", ignore=shutil.ignore_patterns("__*__"))
    for package in (exfm, exfm.features):
        place = folder.joinpath(*package.__name__.split("."))
        shutil.copyfile(_folder_of(package) / "__init__.py", place / "__init__.py")


def publish(staged: Path, repository: Path, schema: Schema, manifest: Mapping[str, Any], batching: Batching) -> Path:
    """Give a staged version the next number and put it in place, then point config.pbtxt at it.

    A crash at any moment leaves the repository with the old configuration, which names the old version, or the new one.

    Returns:
        The version's folder.
    """
    home = repository / schema.verticals[0].name
    home.mkdir(exist_ok=True)
    with locked(repository):
        version = max(versions_in(home), default=0) + 1
        whole = {**manifest, "version": version, "files": hashes_of(staged)}
        write_durably(staged / MANIFEST, json.dumps(whole, indent=1, sort_keys=True).encode())
        sync_tree(staged)
        place = staged.rename(home / str(version))
        sync(home)
        write_config(home / "config.pbtxt", model_config(schema, version, batching))
        sync(repository)
    return place


def versions_in(home: Path) -> list[int]:
    """Numbers of the versions that a model's folder holds, ascending."""
    return sorted(int(entry.name) for entry in home.iterdir() if entry.name.isdecimal() and entry.is_dir())


def hashes_of(folder: Path) -> dict[str, str]:
    """sha256 in hex of each file under `folder` but the manifest, by its path within it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _folder_of(package: Any) -> Path:
    return Path(package.__path__[0])
