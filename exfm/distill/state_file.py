"""A run's state as one file: nested tables of numbers, texts, arrays and tensors, written whole or not at all."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch


class StateError(ValueError):
    """The file is no state, or another run has it; the message names it."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write it; durable on return."""
    aside = path.with_suffix(".partial")
    with aside.open("wb") as handle:
        torch.save(_packed(state), handle)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path, format_: int) -> dict[str, Any]:
    """Read it without running any code from it; `StateError` if it is damaged or of another format."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the unpickler raise nearly anything
        raise StateError(f"{path}: not a readable state of training: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != format_:
        raise StateError(f"{path}: not a state of training that this version reads")
    state: dict[str, Any] = _unpacked(raw)
    return state


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be; `StateError` if one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StateError(f"{folder}: another run writes there") from error
    finally:
        os.close(handle)


def _packed(value: Any) -> Any:
    """Arrays as bytes with their kind, since tensors don't know all kinds."""
    if isinstance(value, dict):
        return {key: _packed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_packed(each) for each in value)
    if isinstance(value, np.ndarray):
        flat = np.frombuffer(bytearray(np.ascontiguousarray(value).tobytes()), np.uint8)
        return {"array": value.dtype.str, "shape": list(value.shape), "bytes": torch.from_numpy(flat)}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array", "shape", "bytes"}:
            return value["bytes"].numpy().view(value["array"]).reshape(value["shape"])
        return {key: _unpacked(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unpacked(each) for each in value)
    return value
