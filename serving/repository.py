"""Reads the model repository: everything is checked before anything is served."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import Schema, SchemaError
from exfm.features.signature import PROBABILITY, tensors_of
from serving.catalog import Catalog, Golden, Vertical
from serving.errors import RepositoryError
from serving.ladder.prior import Prior

MANIFEST = "manifest.json"
_READ_HERE = ("schema.json", "prior.npz", "golden.npz")


def load_catalog(repository: Path) -> Catalog:
    """Read the newest complete version of every vertical in a model repository.

    A version is complete once its manifest and every file that the manifest lists are there.

    Raises:
        RepositoryError: nothing is published there, or a published file is not what its manifest says.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository}: no such folder")
    folders = sorted(path.parent for path in repository.glob("*/config.pbtxt"))
    verticals = {folder.name: _load_version(_newest(folder)) for folder in folders}
    if not verticals:
        raise RepositoryError(f"{repository}: no published model; write one with exfm-export")
    return Catalog(verticals)


def _newest(folder: Path) -> Path:
    versions = (path for path in folder.iterdir() if path.name.isdecimal())
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        if (version / MANIFEST).is_file() and all((version / name).is_file() for name in _manifest(version)["files"]):
            return version
    raise RepositoryError(f"{folder}: no complete version")


def _manifest(version: Path) -> dict[str, Any]:
    path = version / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != 1:
            raise RepositoryError(f"{path}: format {manifest['format']!r} is unknown; this server reads format 1")
        return {"files": {}, **manifest}
    except (ValueError, TypeError, KeyError) as error:
        raise RepositoryError(f"{path}: not a manifest: {error!r}") from error


def _load_version(folder: Path) -> Vertical:
    manifest = _manifest(folder)
    _verify(folder, manifest["files"])
    try:
        schema = Schema.load(folder / "schema.json")
        vertical = Vertical(
            name=manifest["vertical"],
            version=int(manifest["version"]),
            schema=schema,
            budget_s=float(manifest["budget_ms"]) / 1e3,
            max_candidates=int(manifest["max_candidates"]),
            prior=Prior(*_arrays(folder / "prior.npz", "ad", "probability", "default")),
            golden=_golden(folder, schema, manifest),
        )
    except (SchemaError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{folder}: {error}") from error
    _agree(folder, vertical, manifest)
    return vertical


def _verify(folder: Path, hashes: Mapping[str, str]) -> None:
    for name in {*hashes, *_READ_HERE}:
        path = folder / name
        if name not in hashes:
            raise RepositoryError(f"{folder / MANIFEST}: lists no {name}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != hashes[name]:
            raise RepositoryError(f"{path}: sha256 is {found[:12]}…, the manifest says {hashes[name][:12]}…")


def _golden(folder: Path, schema: Schema, manifest: Mapping[str, Any]) -> Golden:
    names = [tensor.name for tensor in tensors_of(schema)]
    *inputs, probability = _arrays(folder / "golden.npz", *names, PROBABILITY)
    # The bound was held on the machine that exported; another processor may round a little differently.
    tolerance = 10 * float(manifest["parity"]["bound"])
    return Golden(dict(zip(names, inputs, strict=True)), probability, tolerance)


def _arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (OSError, ValueError, KeyError) as error:
        raise RepositoryError(f"{path}: {error}") from error


def _agree(folder: Path, vertical: Vertical, manifest: Mapping[str, Any]) -> None:
    found = {
        "vertical": folder.parent.name,
        "version": int(folder.name),
        "schema_hash": vertical.schema.digest,
        "tasks": list(vertical.tasks),
    }
    for key, value in found.items():
        if manifest[key] != value:
            raise RepositoryError(f"{folder / MANIFEST}: {key} is {manifest[key]!r}, the files say {value!r}")
    for name, array in {"prior.npz": vertical.prior.probability, "golden.npz": vertical.golden.probability}.items():
        if array.shape[1:] != (len(vertical.tasks),):
            raise RepositoryError(f"{folder / name}: {PROBABILITY} is {array.shape}, for tasks {list(vertical.tasks)}")
