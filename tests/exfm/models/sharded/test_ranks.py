"""What a process of several does, and what it says when it isn't one."""

import sys
from pathlib import Path

import pytest
import torch

from exfm.commands import train_sharded
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import INSTALL, ShardingError, require_torchrec
from exfm.models.sharded.ranks import Ranks, joined_ranks


@pytest.mark.parametrize(("rows", "world"), [(10, 3), (2, 3), (0, 2), (9, 1), (4, 2)])
def test_parts_cover_all_rows_once(rows: int, world: int) -> None:
    parts = [Ranks(rank, world, world, torch.device("cpu")).part(rows) for rank in range(world)]
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))


def test_without_torchrec_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(ShardingError, match="a sharded teacher needs torchrec") as raised:
        require_torchrec()
    assert INSTALL in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_torchrun_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ShardingError) as raised, joined_ranks():
        pass
    said = str(raised.value)
    assert said == f"RANK is not set: start with torchrun --nproc-per-node N -m {train_sharded.__name__} ..."


def test_a_folder_without_a_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardingError, match=f"{tmp_path}: no sharded teacher"):
        checkpoint.about(tmp_path)
    (tmp_path / ".metadata").write_bytes(b"junk")
    with pytest.raises(ShardingError, match=f"{tmp_path}: not a readable checkpoint"):
        checkpoint.read(tmp_path, ("weight.",))
