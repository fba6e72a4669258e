"""A sharded teacher's folder: written by any number of ranks, each its own part, read by any other number.

torch.distributed.checkpoint holds the tensors; `teacher.json` says what they are, and its presence that they are whole.
The folder must be one that all ranks see. Its index is a pickle: read only folders that you trust.
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from exfm.models.durable import sync
from exfm.models.sharded.extra import ShardingError

ABOUT = "teacher.json"


def save(folder: Path, tensors: dict[str, Any], about: Mapping[str, Any]) -> None:
    """Write the folder, whole or not at all, in the place of what was there; a collective.

    Args:
        folder: seen by all ranks.
        tensors: sharded ones, or plain ones that are the same on each rank.
        about: plain values for JSON, the same on each rank.

    Raises:
        OSError: a rank can't write its part, and all hear of it; what was there stays.
    """
    aside, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    if dist.get_rank() == 0:
        if old.exists() and not folder.exists():
            old.rename(folder)  # somebody was killed between the two renames below
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    dist.barrier()
    with warnings.catch_warnings(), _failing_as(OSError, f"{folder}: can't be written"):
        warnings.simplefilter("ignore", FutureWarning)
        state_dict_saver.save(tensors, checkpoint_id=aside)
    if dist.get_rank() == 0:
        (aside / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        for each in (aside / ABOUT, aside):
            sync(each)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        sync(folder.parent)  # before the old one, which is whole, goes
        shutil.rmtree(old, ignore_errors=True)
    dist.barrier()


def exists(folder: Path) -> bool:
    """Whether something whole was saved there."""
    return _whole(folder).exists()


def remove(folder: Path) -> None:
    """Leave nothing of it; for one of the ranks."""
    for each in (folder, _whole(folder)):
        shutil.rmtree(each, ignore_errors=True)


def about(folder: Path) -> dict[str, Any]:
    """What was said when it was saved; `ShardingError` if there is no whole checkpoint."""
    try:
        read: dict[str, Any] = json.loads((_whole(folder) / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShardingError(f"{folder}: no sharded teacher: {error}") from error
    return read


def load(folder: Path, tensors: dict[str, Any], prefixes: tuple[str, ...] = ("",)) -> None:
    """Read into the tensors, in place; a collective; a rank reads what overlaps its rows, a saved part at a time.

    Args:
        folder: where they were saved.
        tensors: all of those whose names begin so.
        prefixes: of names.

    Raises:
        ShardingError: they are not those that were saved, or a rank can't read its part, and all hear of it.
    """
    with warnings.catch_warnings(), _failing_as(ShardingError, f"{folder}: can't be read"):
        warnings.simplefilter("ignore", FutureWarning)
        _refuse_misfit(folder, {name: tuple(each.size()) for name, each in tensors.items()}, prefixes)
        state_dict_loader.load(tensors, checkpoint_id=_whole(folder))


def read(folder: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Plain tensors of those names, by one process that needs neither ranks nor torchrec; they must fit its memory.

    Raises:
        ShardingError: there is no whole checkpoint.
    """
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in _entries(folder).items()
        if name.startswith(prefixes)
    }
    with warnings.catch_warnings(), _failing_as(ShardingError, f"{folder}: can't be read", alone=True):
        warnings.simplefilter("ignore")  # that there are no ranks is what is wanted
        state_dict_loader.load(tensors, checkpoint_id=_whole(folder), no_dist=True)
    return tensors


def refuse_short(folder: Path) -> None:
    """`ShardingError` if a part is missing or shorter than the index says; what is in the parts is not looked at."""
    ends: dict[str, int] = {}
    for each in (_index(folder).storage_data or {}).values():
        ends[each.relative_path] = max(ends.get(each.relative_path, 0), each.offset + each.length)
    for name, end in sorted(ends.items()):
        try:
            size = (_whole(folder) / name).stat().st_size
        except OSError as error:
            raise ShardingError(f"{folder}: part {name!r}: {error.strerror}") from error
        if size < end:
            raise ShardingError(f"{folder}: part {name!r} has {size} bytes, the index says {end}")


def _whole(folder: Path) -> Path:
    """Where the checkpoint lies: beside its place if who saved the next one was killed at the wrong moment."""
    old = folder.with_name(f".{folder.name}.old")
    return old if old.exists() and not folder.exists() else folder


def _index(folder: Path) -> Metadata:
    try:
        return FileSystemReader(_whole(folder)).read_metadata()
    except Exception as error:  # junk makes the unpickler raise nearly anything
        raise ShardingError(f"{folder}: not a readable checkpoint: {error}") from error


def _entries(folder: Path) -> dict[str, TensorStorageMetadata]:
    entries = _index(folder).state_dict_metadata
    return {name: each for name, each in entries.items() if isinstance(each, TensorStorageMetadata)}


def _refuse_misfit(folder: Path, wanted: Mapping[str, tuple[int, ...]], prefixes: tuple[str, ...]) -> None:
    entries = _entries(folder).items()
    there = {name: tuple(entry.size) for name, entry in entries if name.startswith(prefixes)}
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            raise ShardingError(f"{folder}: {name!r} is {there.get(name)} there and {wanted.get(name)} here")


@contextmanager
def _failing_as(kind: type[Exception], what: str, *, alone: bool = False) -> Iterator[None]:
    """Raise a rank's failure, which all ranks get as one that no `except Exception` catches, as one of that kind."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise kind(f"{what}: {said}" if alone else f"{what}: rank {rank}: {said}") from error
