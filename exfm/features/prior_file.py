"""A refreshed prior as a file: written by `exfm-prior` beside a vertical's versions, taken up by a running server.

An `.npz` with the arrays `ad`, `probability` and `default`, the facts as JSON text in `facts`, and in `sha256` a digest
over all of those. The file is replaced by renaming, so whoever reads it finds the old one or the new one; the digest is
for whoever copies it without renaming.
"""

import hashlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "prior.npz"
FORMAT = 1
_SHAPES = {"ad": ("int64", 1), "probability": ("float32", 2), "default": ("float32", 1)}
_FACTS = {"format": int, "vertical": str, "tasks": list, "version": int, "learned_until_ms": int, "written_ms": int}


class PriorFileError(ValueError):
    """The file holds no sound prior; the message names the file and what is wrong."""


@dataclass(frozen=True)
class PriorFile:
    """A prior and where it comes from.

    Attributes:
        vertical: whose it is.
        tasks: what the columns of `probability` stand for, T of them.
        ad: keys, int64 [A], ascending.
        probability: float32 [A, T].
        default: for any other ad, float32 [T].
        version: counts the refreshes of this vertical, from 1.
        learned_until_ms: time of the last impression in it, milliseconds since the epoch.
        written_ms: when it was written, milliseconds since the epoch.
    """

    vertical: str
    tasks: tuple[str, ...]
    ad: NDArray[np.int64]
    probability: NDArray[np.float32]
    default: NDArray[np.float32]
    version: int
    learned_until_ms: int
    written_ms: int


def write_prior(path: Path, prior: PriorFile) -> None:
    """Put the file in place, whole or not at all, also across a crash."""
    data = pack(prior)
    number, aside = tempfile.mkstemp(prefix=".prior-", dir=path.parent)
    try:
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(number)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def pack(prior: PriorFile) -> bytes:
    """The file's bytes."""
    arrays: dict[str, NDArray[Any]] = {name: np.ascontiguousarray(getattr(prior, name)) for name in _SHAPES}
    facts: dict[str, Any] = {name: getattr(prior, name) for name in _FACTS if name != "format"}
    text = json.dumps({"format": FORMAT, **facts, "tasks": list(prior.tasks)})
    arrays["facts"] = np.frombuffer(text.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, sha256=np.frombuffer(_digest(arrays), np.uint8))
    return buffer.getvalue()


def read_prior(path: Path) -> PriorFile:
    """Read and check a file.

    Raises:
        PriorFileError: it can't be read, is torn, or is not of this format. What the numbers are is not looked at.
    """
    try:
        return unpack(path.read_bytes())
    except (OSError, PriorFileError) as error:
        raise PriorFileError(f"{path}: {error}") from error


def unpack(data: bytes) -> PriorFile:
    """The prior in a file's bytes; `PriorFileError` if there is none."""
    arrays = _arrays(data)
    try:
        facts = json.loads(arrays["facts"].tobytes())
        wrong = next((name for name, kind in _FACTS.items() if type(facts[name]) is not kind), "")
    except (ValueError, KeyError, TypeError) as error:
        raise PriorFileError(f"not a prior: {error!r}") from error
    if wrong or facts["format"] != FORMAT:
        raise PriorFileError(f"not a prior of format {FORMAT}: {wrong or 'format'} is {facts[wrong or 'format']!r}")
    for name, (dtype, dimensions) in _SHAPES.items():
        found = arrays[name]
        if found.dtype != dtype or found.ndim != dimensions:
            raise PriorFileError(f"{name} is {found.dtype} {found.shape}, not {dtype} in {dimensions} dimensions")
    known: dict[str, Any] = {name: facts[name] for name in _FACTS if name != "format"}
    known |= {"tasks": tuple(facts["tasks"]), **{name: arrays[name] for name in _SHAPES}}
    return PriorFile(**known)


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in (*_SHAPES, "facts", "sha256")}
    except Exception as error:  # junk makes the readers of zip and npy raise nearly anything
        raise PriorFileError(f"not a prior: {error!r}") from error
    said = arrays.pop("sha256").tobytes()
    if said != _digest(arrays):
        raise PriorFileError("torn or changed: its sha256 is not what it says")
    return arrays


def _digest(arrays: dict[str, NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
