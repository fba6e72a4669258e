"""A teacher to plan with: its size and work are the real one's, its weights stay where they are."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.augment.planning.speed import size_of, work_of
from exfm.augment.planning.weightless import weightless
from exfm.commands.annotate import main
from exfm.data.source import Source
from exfm.models.checkpoint import Checkpoint, load_checkpoint
from exfm.models.lazy.setting import hashed_into
from exfm.models.sharded.checkpoint import ABOUT
from exfm.models.sharded.snapshot import about


@pytest.fixture
def snapshots(tiny: Callable[..., Source], publish: Callable[..., Snapshots]) -> Snapshots:
    return publish(tiny(20))


def sharded(teacher: Checkpoint, folder: Path) -> Path:
    """As training in ranks leaves it, but for its shards: who looks at them fails."""
    folder.mkdir()
    (folder / ABOUT).write_text(json.dumps(about(teacher)), encoding="utf-8")
    return folder


def test_it_is_as_large_and_as_much_work_as_the_teacher(snapshots: Snapshots, tmp_path: Path) -> None:
    path, whole = snapshots.path("first"), snapshots.load("first")
    folder = sharded(load_checkpoint(path), tmp_path / "first.sharded")
    for made in (weightless(path), weightless(folder)):
        assert (made.name, made.tasks, made.counters) == ("first", whole.tasks, whole.counters)
        assert size_of(made) == size_of(whole)
        assert work_of(made) == work_of(whole)


def test_more_rows_than_any_memory_holds_are_planned_with(
    snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)  # it takes seconds
    small = load_checkpoint(snapshots.path("first"))
    schema = hashed_into(small.schema, 10**11)
    table = torch.zeros(1).expand(schema.rows, small.state["table.weight"].shape[1])
    large = replace(small, schema=schema, state={**small.state, "table.weight": table})
    large.save(tmp_path / "large.pt")
    asked = ["--memory-gb", "80", "--devices", "99", "--link-gb-per-s", "9", "--weight-bytes", "2", "--traffic", "1"]
    for path in (tmp_path / "large.pt", sharded(large, tmp_path / "large.sharded")):
        assert main(["plan", "--teacher", str(path), "--speed", "90", "--json", *asked]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["teacher"]["rows"] == schema.rows > 10**11
        assert told["spread"]


def test_what_is_no_teacher_is_refused_in_one_line(snapshots: Snapshots, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SnapshotError, match="empty: no sharded teacher"):
        weightless(tmp_path / "empty")
    small = load_checkpoint(snapshots.path("first"))
    replace(small, options={**small.options, "colour": 1}).save(tmp_path / "odd.pt")
    with pytest.raises(SnapshotError, match=r"odd\.pt: .*colour") as raised:
        weightless(tmp_path / "odd.pt")
    assert "\n" not in str(raised.value)
    replace(small, kind="student").save(tmp_path / "student.pt")
    with pytest.raises(SnapshotError, match="student"):
        weightless(tmp_path / "student.pt")
