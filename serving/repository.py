"""Reads the model repository: everything is checked before anything is served."""

import fcntl
import logging
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from exfm.features.schema import Schema, SchemaError
from exfm.features.signature import PROBABILITY, tensors_of
from serving.catalog import Batching, Catalog, Golden, Vertical
from serving.errors import RepositoryError
from serving.ladder.prior import Prior
from serving.published import CONFIG, Version, check_config, open_version, own_config, parse_config
from serving.signature import MANIFEST, trusted_keys

log = logging.getLogger(__name__)

FP32_BOUND = 1e-5
"""Parity up to here is that of fp32; what is above it is an engine's own, wider bound."""
_BY_FRONTEND, _BY_TRITON = "frontend", "triton"
_NEEDED = ("schema.json", "prior.npz", "golden.npz")
_BACKEND, _SCHEMA_HASH = "python", "schema_hash"
"""Of a configuration that `exfm-export` has made for the frontend."""
_MARK = ".last_version"
"""Lies where `exfm-export` has published."""
_PASSED_OVER = re.compile(r"\.|lost\+found$")


def load_catalog(repository: Path, trusted: Path | None = None, versions: Mapping[str, int] | None = None) -> Catalog:
    """Read of every vertical in a model repository the version that its `config.pbtxt` names, as Triton does.

    A newer folder may lie beside it: an export that was cut short, or one whose turn has not come. Models that
    `exfm-export` has not published for the frontend are left out.

    `exfm-export prune` leaves what is in a catalog until nobody has that catalog any more, so that it can be started
    anew: each version is locked before it is read, and one that was pruned before that gives way to the one that is
    served then.

    Args:
        repository: the folder.
        trusted: folder of the keys whose versions count; None: the repository's own.
        versions: by model the one to read, whatever `config.pbtxt` says by now; other models are left out.

    Raises:
        RepositoryError: nothing is published there; a version is incomplete, not what its manifest says or not signed
            as it must be; its configuration was changed; or something can't be read.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository}: no such folder")
    with _readable(), ExitStack() as locks:
        keys = trusted_keys(repository, trusted)
        if versions is None:
            models = [model for home in _homes(repository) if (model := _load_served(home, keys, locks))]
        else:
            models = [_load_numbered(repository / name / str(one), keys, locks) for name, one in versions.items()]
        catalog = _catalog(repository, models)
        # A lock is one with its copies, and lasts as long as any of them.
        held = [os.dup(model.lock) for model in models if model.vertical.name in catalog.models]
        weakref.finalize(catalog, _close, held)
    return catalog


@dataclass(frozen=True)
class _Model:
    """A published version; `serves` names the vertical of a lite one and is empty for any other, `lock` holds it."""

    vertical: Vertical
    serves: str
    lock: int


def _catalog(repository: Path, models: Sequence[_Model]) -> Catalog:
    verticals = {model.vertical.name: model.vertical for model in models if not model.serves}
    for model in models:
        if model.serves:
            _pair(verticals, model)
    if not verticals:
        raise RepositoryError(f"{repository}: no published model; write one with exfm-export")
    return Catalog(verticals)


def _close(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)


def _pair(verticals: dict[str, Vertical], model: _Model) -> None:
    """Give a vertical its lite model. One that doesn't fit its vertical, or the vertical not it, only stays unused."""
    lite, vertical = model.vertical, verticals.get(model.serves)
    if vertical is None:
        log.warning("%s is left out: it is for tier lite of %r, which is not published", lite.name, model.serves)
    elif vertical.schema.digest != lite.schema.digest:
        log.warning("%s is left out: version %d of %s has another schema", lite.name, vertical.version, vertical.name)
    else:
        verticals[vertical.name] = replace(vertical, lite=lite)


def triton_configs(repository: Path, catalog: Catalog) -> dict[str, str]:
    """Triton's configuration of each version in the catalog, by its model's name, as JSON.

    It is the version's own, which its manifest covers. A Triton that gets it with the order to load serves just these
    versions, whatever is published meanwhile.

    Raises:
        RepositoryError: a configuration isn't the one that was published with its version, or can't be read.
    """
    with _readable():
        configs = {name: own_config(repository / name / str(one.version)) for name, one in catalog.models.items()}
    as_json = partial(json_format.MessageToJson, preserving_proto_field_name=True, indent=None)
    return {name: as_json(config) for name, config in configs.items()}


def _lock(folder: Path, locks: ExitStack) -> int:
    """The open file, given to `locks` to close, whose lock keeps a version; it is to be taken before that is read."""
    path = folder / MANIFEST
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise RepositoryError(f"{folder}: incomplete, no {MANIFEST}, and it is to be served") from error
    locks.callback(os.close, handle)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)
    # Whoever removes a version holds the lock meanwhile.
    if not os.path.samestat(os.fstat(handle), os.stat(path)):
        raise RepositoryError(f"{folder}: was replaced while it was read")
    return handle


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RepositoryError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


def _homes(repository: Path) -> list[Path]:
    """Folders with a `config.pbtxt`. One that may not be entered is an error: it may hold a vertical."""
    folders = sorted(path for path in repository.iterdir() if path.is_dir())
    return [path for path in folders if not _PASSED_OVER.match(path.name) and (path / CONFIG).exists()]


def _load_numbered(folder: Path, keys: tuple[Path, ...], locks: ExitStack) -> _Model:
    lock = _lock(folder, locks)
    return _model(open_version(folder, keys, _NEEDED), lock)


def _load_served(home: Path, keys: tuple[Path, ...], locks: ExitStack) -> _Model | None:
    """The version that `config.pbtxt` names; None where it isn't for the frontend."""
    while True:
        # Read once: what is published meanwhile changes nothing of what is compared here.
        content = (home / CONFIG).read_bytes()
        try:
            return _load_named(home, content, keys, locks)
        except (RepositoryError, OSError):
            # Or another version was published and this one pruned: then the new one counts.
            if content == (home / CONFIG).read_bytes():
                raise


def _load_named(home: Path, content: bytes, keys: tuple[Path, ...], locks: ExitStack) -> _Model | None:
    config = parse_config(home / CONFIG, content)
    runners = config.backend == _BACKEND and _SCHEMA_HASH in config.parameters
    if not runners and not (home / _MARK).exists():
        log.warning("%s is left out: exfm-export has not published it", home.name)
        return None
    folder = home / str(_pinned(home, config))
    lock = _lock(folder, locks)
    version = open_version(folder, keys, _NEEDED if runners else ())
    check_config(home, content, version)
    if not runners:
        log.warning("%s is left out: it is not for the frontend", home.name)
        return None
    return _model(version, lock)


def _pinned(folder: Path, config: Any) -> int:
    versions = config.version_policy.specific.versions
    if len(versions) != 1:
        raise RepositoryError(f"{folder / CONFIG}: names {len(versions)} versions under version_policy, not one")
    return int(versions[0])


def _model(version: Version, lock: int) -> _Model:
    folder, manifest = version.folder, version.manifest
    try:
        schema, lineage = Schema.load(folder / "schema.json"), manifest["lineage"]
        vertical = Vertical(
            name=manifest["vertical"],
            version=int(manifest["version"]),
            schema=schema,
            budget_s=float(manifest["budget_ms"]) / 1e3,
            max_candidates=int(manifest["max_candidates"]),
            prior=Prior(*_arrays(folder / "prior.npz", "ad", "probability", "default")),
            golden=_golden(folder, schema, manifest),
            profile=_profile(manifest),
            learned_until_ms=int(lineage.get("learned_until_ms", 0)),
            written_s=datetime.fromisoformat(manifest["created_utc"]).timestamp(),
            batching=_batching(manifest),
        )
    except (SchemaError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryError(f"{folder}: {error}") from error
    _agree(folder, vertical, manifest)
    return _Model(vertical, str(lineage["serves"]) if lineage.get("tier") == "lite" else "", lock)


def _golden(folder: Path, schema: Schema, manifest: Mapping[str, Any]) -> Golden:
    names = [tensor.name for tensor in tensors_of(schema)]
    *inputs, probability = _arrays(folder / "golden.npz", *names, PROBABILITY)
    # The bound was held on the machine that exported; another processor may round a little differently.
    bound = float(manifest["parity"]["bound"])
    tolerance = (10 if bound <= FP32_BOUND else 2) * bound
    return Golden(dict(zip(names, inputs, strict=True)), probability, tolerance)


def _profile(manifest: Mapping[str, Any]) -> dict[int, float]:
    """Mean seconds of a call by candidates; empty for a version that was published without."""
    buckets = manifest.get("profile", {}).get("buckets", {})
    return {int(candidates): float(entry["mean_ms"]) / 1e3 for candidates, entry in buckets.items()}


def _batching(manifest: Mapping[str, Any]) -> Batching | None:
    """None where Triton forms the batches, as for every version whose manifest says nothing of it."""
    said = manifest.get("batching", {"by": _BY_TRITON})
    if said["by"] == _BY_TRITON:
        return None
    if said["by"] != _BY_FRONTEND:
        raise ValueError(f"{MANIFEST}: batches formed by {said['by']!r} are unknown to this server")
    instances, most = int(said["instances"]), int(said["max_requests"])
    if instances < 1 or most < 1:
        raise ValueError(f"{MANIFEST}: batching by {instances} instances of {most} requests")
    # One stays free: for canaries, for the stalls that Triton has with none, and so that cores are left for us.
    return Batching(max(instances - 1, 1), most)


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
