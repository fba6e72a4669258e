"""The folder of snapshots: a name stands for the same weights for good."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.models.checkpoint import Checkpoint, load_checkpoint
from exfm.models.sharded.checkpoint import save
from exfm.models.sharded.layout import PARTS, table_name
from exfm.models.sharded.ranks import ranks_of_this_machine
from exfm.models.sharded.snapshot import AVERAGE, TABLE, WEIGHT, about, layout_of


def test_a_name_is_never_given_to_another_snapshot(
    world: Callable[..., Any], publish: Callable[..., Snapshots], tmp_path: Path
) -> None:
    source = world(50).source
    snapshots = publish(source, "one", seed=0)
    before = snapshots.load("one").id
    publish(source, "two", seed=1)
    (tmp_path / "two.pt").replace(tmp_path / "other.pt")
    with pytest.raises(SnapshotError, match=r"'one' is there with other content; publish under a new name"):
        snapshots.publish(tmp_path / "other.pt", "one")
    assert (snapshots.load("one").id, snapshots.current()) == (before, "two")
    assert sorted(each.name for each in snapshots.path("one").parent.iterdir()) == ["CURRENT", "one.pt", "two.pt"]


def test_the_same_snapshot_may_become_current_again(
    world: Callable[..., Any], publish: Callable[..., Snapshots], tmp_path: Path
) -> None:
    source = world(50).source
    snapshots = publish(source, "one", seed=0)
    publish(source, "two", seed=1)
    snapshots.publish(tmp_path / "one.pt", "one")
    assert snapshots.current() == "one"


def test_shards_that_are_cut_off_are_not_published(
    world: Callable[..., Any], publish: Callable[..., Snapshots], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = publish(world(50).source, "one")
    shards = write_shards(load_checkpoint(tmp_path / "one.pt"), tmp_path / "teacher.sharded", monkeypatch)
    part = shards / "__0_0.distcp"
    shutil.copytree(shards, tmp_path / "whole")
    os.truncate(part, part.stat().st_size - 1)
    with pytest.raises(SnapshotError, match=r"'two': .*part '__0_0\.distcp' has .* bytes, the index says"):
        snapshots.publish(shards, "two")
    assert snapshots.current() == "one"
    assert not snapshots.shards("two").exists()
    snapshots.publish(tmp_path / "whole", "two")
    assert (snapshots.current(), snapshots.load("two").in_shards) == ("two", True)


def write_shards(teacher: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher as one rank would have saved it, tables last."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dense = {AVERAGE + name: tensor for name, tensor in teacher.state.items() if name != TABLE}
    layout = layout_of(teacher)
    tables = {
        WEIGHT + table_name(part, place): torch.zeros(rows, layout.width(part))
        for part in PARTS
        for place, rows in enumerate(layout.rows)
    }
    with ranks_of_this_machine(0, 1, folder.with_name("meeting"), 30.0):
        save(folder, {**dense, **tables}, about(replace(teacher, state={})))
    return folder
