"""Fields of the small JSON files of a table, checked: what is wrong is told by file and field."""

import json
import reprlib
from pathlib import Path
from typing import Any

from exfm.models.lazy.errors import LazyTableError


def read_fields(path: Path) -> dict[str, Any]:
    """The JSON object in a file; `LazyTableError` if there is none."""
    try:
        return fields_of(path, path.read_bytes())
    except OSError as error:
        if isinstance(error, LazyTableError):
            raise
        raise LazyTableError(f"{path}: {error.strerror}") from error


def fields_of(path: Path, text: bytes) -> dict[str, Any]:
    """The JSON object that a file has there; `LazyTableError` if it is anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LazyTableError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise LazyTableError(f"{path}: there is {reprlib.repr(found)}, not an object of fields")
    return found


def count_in(path: Path, found: dict[str, Any], name: str, least: int = 0) -> int:
    """The whole number of a field, at least `least`; `LazyTableError` if it is anything else."""
    value = found.get(name)
    if type(value) is not int or value < least:
        said = reprlib.repr(value) if name in found else "missing"
        raise LazyTableError(f"{path}: field {name!r} is {said}; it must be a whole number from {least} on")
    return value


def object_in(path: Path, found: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of a field; `LazyTableError` if it is anything else."""
    value = found.get(name)
    if not isinstance(value, dict):
        said = reprlib.repr(value) if name in found else "missing"
        raise LazyTableError(f"{path}: field {name!r} is {said}; it must be an object")
    return value
