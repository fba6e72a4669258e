"""How two published versions differ."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exfm.features.schema import Schema, SchemaError
from exporter.compare import figure_of
from exporter.errors import VersionError
from exporter.home import OWN_CONFIG
from exporter.integrity import Version, check_version
from exporter.signing import TrustedKeys

FIGURES = ("ne", "auc", "calibration")


def differ(before: Path, after: Path, trusted: TrustedKeys) -> dict[str, Any]:
    """Compare two version folders, of one vertical or of two.

    Returns:
        `schema` (features and entries added, removed, changed), `parameters`, `engine` and `parity` (pairs), `quality`
        (pairs by figure and task), `latency` (pairs of p50 and p99 in ms by candidates), `config` (lines of a unified
        diff), `lineage` (pairs of what differs) and `files` (added, removed, changed). A pair is [before, after].

    Raises:
        VersionError: one of them is not what it was published as.
    """
    old, new = check_version(before, trusted), check_version(after, trusted)
    return {
        "before": _name(old),
        "after": _name(new),
        "schema": _schemas(old, new),
        "parameters": _pair(old, new, "parameters"),
        "engine": _pair(old, new, "engine"),
        "parity": _pair(old, new, "parity"),
        "quality": _quality(old, new),
        "latency": _latency(old, new),
        "config": _configs(old, new),
        "lineage": _entries(old.manifest.get("lineage", {}), new.manifest.get("lineage", {})),
        "files": _sets(old.manifest["files"], new.manifest["files"]),
    }


def _name(version: Version) -> str:
    return f"{version.folder.parent.name}/{version.number}"


def _pair(old: Version, new: Version, key: str) -> list[Any]:
    return [old.manifest.get(key), new.manifest.get(key)]


def _schemas(old: Version, new: Version) -> dict[str, Any]:
    features: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for version in (old, new):
        try:
            plain = Schema.load(version.folder / "schema.json").to_dict()
        except SchemaError as error:
            raise VersionError(f"{version.folder / 'schema.json'}: {error}") from error
        features.append({entry["name"]: entry for entry in plain.pop("feature")})
        others.append(plain)
    same = old.manifest.get("schema_hash") == new.manifest.get("schema_hash")
    return {"same": same, "features": _sets(*features), "entries": _entries(*others)}


def _quality(old: Version, new: Version) -> dict[str, dict[str, list[float | None]]]:
    found = {}
    for figure in FIGURES:
        values = [figure_of(v.manifest.get("quality", {}), v.manifest.get("tasks", ()), figure) for v in (old, new)]
        found[figure] = {task: [each.get(task) for each in values] for task in {**values[0], **values[1]}}
    return {figure: by_task for figure, by_task in found.items() if by_task}


def _latency(old: Version, new: Version) -> dict[str, dict[str, list[float | None]]]:
    tables = [version.manifest.get("profile", {}).get("buckets", {}) for version in (old, new)]
    sizes = sorted({*tables[0], *tables[1]}, key=int)
    return {
        size: {name: [table.get(size, {}).get(name) for table in tables] for name in ("p50_ms", "p99_ms")}
        for size in sizes
    }


def _configs(old: Version, new: Version) -> list[str]:
    before, after = (_lines(version.folder / OWN_CONFIG) for version in (old, new))
    return list(difflib.unified_diff(before, after, _name(old), _name(new), lineterm="", n=2))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = [*old, *(key for key in new if key not in old)]
    return {key: [old.get(key), new.get(key)] for key in keys if _plain(old.get(key)) != _plain(new.get(key))}


def _sets(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and _plain(old[name]) != _plain(new[name])],
    }


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
