"""The folder of snapshots: a name stands for the same weights for good."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exfm.augment.annotate.snapshots import SnapshotError, Snapshots


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
