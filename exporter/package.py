"""What a version folder holds beside the engine's own files, up to the manifest that seals it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import exfm
import exfm.features
import exporter.runner
from exfm.features.schema import Schema
from exporter.durable import sync_tree
from exporter.home import MANIFEST, OWN_CONFIG, SIGNATURE
from exporter.integrity import hashes_of
from exporter.progress import HASHED, SYNCED, Watch, unwatched
from exporter.signing import Signer
from exporter.tree import everything_in, size_of

RUNNER = "model.py"
"""What Triton's Python backend runs; the engine brings the modules that it imports."""
NO_BYTECODE = "__pycache__"
"""A plain file of this name keeps Python from writing bytecode there, which it would later run unchecked."""


def write_parts(folder: Path, schema: Schema, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Put everything but the engine's files, the configuration and the manifest into a staged version, after them.

    Args:
        folder: the staged version.
        schema: the vertical's own schema.
        arrays: per file stem the arrays of its `.npz`.
    """
    write_data(folder, schema, arrays)
    shutil.copyfile(_folder_of(exporter.runner) / RUNNER, folder / RUNNER)
    shutil.copytree(_folder_of(exfm.features), folder / "exfm" / "features", ignore=shutil.ignore_patterns("__*__"))
    for package in (exfm, exfm.features):
        place = folder.joinpath(*package.__name__.split("."))
        shutil.copyfile(_folder_of(package) / "__init__.py", place / "__init__.py")
    for place in {path.parent for path in everything_in(folder) if path.suffix == ".py"}:
        (place / NO_BYTECODE).write_text("Keeps unlisted bytecode out of this version.\n", encoding="utf-8")


def write_data(folder: Path, schema: Schema, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Of `write_parts` what is no code: the schema and the arrays."""
    (folder / "schema.json").write_text(json.dumps(schema.to_dict(), indent=1), encoding="utf-8")
    for stem, content in arrays.items():
        named: dict[str, Any] = dict(content)
        np.savez(folder / f"{stem}.npz", **named)


def seal(
    staged: Path,
    version: int,
    config: bytes,
    manifest: Mapping[str, Any],
    signer: Signer | None,
    *,
    watch: Watch = unwatched,
) -> None:
    """Complete a staged version: its configuration, the manifest with every file's sha256, the signature; then sync.

    Args:
        staged: the folder, all else in it.
        version: the number that it will have.
        config: what config.pbtxt will be while this version is served.
        manifest: all of it but the number and the files.
        signer: signs the manifest's bytes; None leaves the version unsigned.
        watch: shows how much is hashed and synced.
    """
    (staged / OWN_CONFIG).write_bytes(config)
    with watch(HASHED, size_of(everything_in(staged))) as count:
        whole = {**manifest, "version": version, "files": hashes_of(staged, count)}
    content = json.dumps(whole, indent=1, sort_keys=True).encode()
    (staged / MANIFEST).write_bytes(content)
    if signer is not None:
        (staged / SIGNATURE).write_bytes(signer.sign(content))
    for path in everything_in(staged):  # the umask may be such that whoever serves could not read it
        path.chmod(0o444 if path.is_file() else 0o755)
    with watch(SYNCED, size_of(everything_in(staged))) as count:
        sync_tree(staged, count)


def _folder_of(package: Any) -> Path:
    return Path(package.__path__[0])
