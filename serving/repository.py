"""Reads the model repository: everything is checked before anything is served."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema, SchemaError
from exfm.features.signature import PROBABILITY, tensors_of
from serving.catalog import Batching, Catalog, Golden, Vertical
from serving.errors import RepositoryError
from serving.ladder.prior import Prior
from serving.signature import MANIFEST, SIGNATURE, check_signature

log = logging.getLogger(__name__)

CONFIG = "config.pbtxt"
FP32_BOUND = 1e-5
"""Parity up to here is that of fp32; what is above it is an engine's own, wider bound."""
_BY_FRONTEND, _BY_TRITON = "frontend", "triton"
_READ_HERE = ("schema.json", "prior.npz", "golden.npz")


def load_catalog(repository: Path) -> Catalog:
    """Read of every vertical in a model repository the version that its `config.pbtxt` names, as Triton does.

    A newer folder may lie beside it: an export that was cut short, or one whose turn has not come.

    Raises:
        RepositoryError: nothing is published there, or the named version is incomplete or not what its manifest says.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository}: no such folder")
    folders = sorted(path.parent for path in repository.glob(f"*/{CONFIG}"))
    models = [_load_version(folder / str(_pinned(folder, _config(folder)))) for folder in folders]
    verticals = {model.vertical.name: model.vertical for model in models if not model.serves}
    for model in models:
        if model.serves:
            _pair(verticals, model)
    if not verticals:
        raise RepositoryError(f"{repository}: no published model; write one with exfm-export")
    return Catalog(verticals)


@dataclass(frozen=True)
class _Model:
    """A published version; `serves` names the vertical of a lite one and is empty for any other."""

    vertical: Vertical
    serves: str


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

    A Triton that gets it with the order to load serves just these versions, whatever is published meanwhile.

    Raises:
        RepositoryError: something was published since the catalog was read; read it again.
    """
    configs = {}
    for vertical in catalog.models.values():
        folder = repository / vertical.name
        config = _config(folder)
        pinned = _pinned(folder, config)
        if pinned != vertical.version:
            raise RepositoryError(f"{folder}: version {pinned} was published just now; start again")
        configs[vertical.name] = json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)
    return configs


def _config(folder: Path) -> Any:
    path = folder / CONFIG
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}") from error


def _pinned(folder: Path, config: Any) -> int:
    versions = config.version_policy.specific.versions
    if len(versions) != 1:
        raise RepositoryError(f"{folder / CONFIG}: names {len(versions)} versions under version_policy, not one")
    return int(versions[0])


def _manifest(version: Path) -> dict[str, Any]:
    path = version / MANIFEST
    if not path.is_file():
        raise RepositoryError(f"{version}: incomplete, no {MANIFEST}; {CONFIG} names this version")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != 1:
            raise RepositoryError(f"{path}: format {manifest['format']!r} is unknown; this server reads format 1")
        return {"files": {}, **manifest}
    except (ValueError, TypeError, KeyError) as error:
        raise RepositoryError(f"{path}: not a manifest: {error!r}") from error


def _load_version(folder: Path) -> _Model:
    check_signature(folder.parent.parent, folder)
    manifest = _manifest(folder)
    _verify(folder, manifest["files"])
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
    return _Model(vertical, str(lineage["serves"]) if lineage.get("tier") == "lite" else "")


def _verify(folder: Path, hashes: Mapping[str, str]) -> None:
    for name in {*hashes, *_READ_HERE}:
        path = folder / name
        if name not in hashes:
            raise RepositoryError(f"{folder / MANIFEST}: lists no {name}")
        if not path.is_file():
            raise RepositoryError(f"{folder}: incomplete, no {name}; {CONFIG} names this version")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != hashes[name]:
            raise RepositoryError(f"{path}: sha256 is {found[:12]}…, the manifest says {hashes[name][:12]}…")
    # A file that the manifest doesn't know may still be imported by the runner.
    listed = {*hashes, MANIFEST, SIGNATURE}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in listed:
            raise RepositoryError(f"{path}: {MANIFEST} doesn't list it")


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
