"""A sharded teacher's folder on a disk that fails; one rank, which is this process, and plain tensors."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.ranks import ranks_of_this_machine

PART = "__0_0.distcp"


def tensors(value: float = 1.0) -> dict[str, Tensor]:
    return {"average.a": torch.full((30,), value), "weight.b": torch.full((5000, 4), value)}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A whole one."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with ranks_of_this_machine(0, 1, tmp_path / "meeting", 30.0):
        checkpoint.save(tmp_path / "teacher.sharded", tensors(), {"of": "monday"})
        yield tmp_path / "teacher.sharded"


def shorten(path: Path, left: int) -> None:
    """To so many bytes."""
    content = path.read_bytes()
    path.unlink()  # it may be linked elsewhere
    path.write_bytes(content[:left])


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Writing beyond that fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_part_that_is_cut_off_is_said_whoever_reads_it(saved: Path) -> None:
    checkpoint.refuse_short(saved)
    size = (saved / PART).stat().st_size
    shorten(saved / PART, size - 1)
    with pytest.raises(ShardingError, match=f"part '{PART}' has {size - 1} bytes, the index says {size}"):
        checkpoint.refuse_short(saved)
    with pytest.raises(ShardingError, match="can't be read: rank 0: "):
        checkpoint.load(saved, dict(tensors(0.0)))
    with pytest.raises(ShardingError, match=r"can't be read: [^r]"):
        checkpoint.read(saved, ("weight.",))
    assert checkpoint.read(saved, ("average.",))["average.a"].eq(1).all()  # what lies before the cut
    (saved / PART).unlink()
    with pytest.raises(ShardingError, match=f"part '{PART}': No such file"):
        checkpoint.refuse_short(saved)


def test_a_full_disk_is_one_line_and_leaves_the_last_one(saved: Path) -> None:
    with files_up_to(20_000), pytest.raises(OSError, match=r"teacher\.sharded: can't be written: rank 0: ") as caught:
        checkpoint.save(saved, tensors(2.0), {"of": "tuesday"})
    assert "\n" not in str(caught.value)
    assert checkpoint.about(saved) == {"of": "monday"}
    assert checkpoint.read(saved, ("weight.",))["weight.b"].eq(1).all()
    checkpoint.save(saved, tensors(3.0), {"of": "wednesday"})
    assert checkpoint.read(saved, ("weight.",))["weight.b"].eq(3).all()


def test_the_old_one_goes_only_when_the_new_one_is_on_the_disk(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, fsync, rmtree = list[str](), os.fsync, shutil.rmtree

    def synced(handle: int) -> None:
        fsync(handle)
        done.append(os.readlink(f"/proc/self/fd/{handle}"))

    def removed(path: Path, **more: Any) -> None:
        if path.exists():
            done.append(f"{path} goes")
        rmtree(path, **more)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(shutil, "rmtree", removed)
    checkpoint.save(saved, tensors(), {})
    aside = f"{saved.parent}/.teacher.sharded.partial"
    wanted = [f"{aside}/{PART}", f"{aside}/teacher.json", aside, str(saved.parent)]
    assert [each for each in done if each in wanted] == wanted
    assert done[-1] == f"{saved.parent}/.teacher.sharded.old goes"
