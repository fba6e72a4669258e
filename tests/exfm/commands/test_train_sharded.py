"""`torchrun ... -m exfm.commands.train_sharded`, without torchrun."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.scale.ranks import run_ranks
from exfm.augment.annotate.forward import Annotations, annotate
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError, Snapshots
from exfm.augment.annotate.workers.opening import open_workers
from exfm.augment.annotate.workers.protocol import Task
from exfm.augment.planning.speed import inputs_of
from exfm.commands.train_sharded import main
from exfm.features.schema import Columns, Feature, Schema, Vertical

SCHEMA = Schema(
    "shop",
    (
        Feature("user", "user", "id", buckets=50),
        Feature("tab", "context", "category", vocabulary=(0, 1)),
        Feature("item", "ad", "id", buckets=50),
    ),
    (Vertical("feed", ("click",)),),
    Columns(user="user", ad="item", time_ms="ts"),
)
SETTINGS = (
    "[stream]\nchunk = 50\nbatch = 25\n[teacher.model]\nlayers = 1\nhidden = 16\nembedding = 8\n"
    '[counters]\nkeys = ["user", "item"]\nrecency = ["user"]\n'
)


def write_log(folder: Path, first_ms: int) -> Path:
    """160 impressions over an hour."""
    folder.mkdir()
    (folder / "schema.json").write_text(json.dumps(SCHEMA.to_dict()), encoding="utf-8")
    draw = np.random.default_rng(first_ms)
    columns = [draw.integers(0, high, 160) for high in (20, 40, 2, 2)]
    times = first_ms + np.arange(160) * 22_500
    lines = [f"{u},{i},{tab},{click},{ts}" for u, i, tab, click, ts in zip(*columns, times, strict=True)]
    (folder / "log.csv").write_text("\n".join(["user,item,tab,click,ts", *lines, ""]), encoding="utf-8")
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """`train(ranks, data, out, *more)`: where it wrote; `RuntimeError` with its exit code if it failed."""
    if find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    settings = tmp_path / "mine.toml"
    settings.write_text(SETTINGS, encoding="utf-8")

    def run(ranks: int, data: Path, out: str, *more: str) -> Path:
        asked = ["--data", str(data), "--out", str(tmp_path / out), "--config", str(settings), "--wait-s", "60"]
        run_ranks(ranks, main, [*asked, *more], limit_s=100)
        return tmp_path / out

    return run


def test_a_teacher_is_trained_by_two_and_goes_on_with_three_and_annotates(
    train: Callable[..., Path], tmp_path: Path
) -> None:
    monday, tuesday = write_log(tmp_path / "a", 1_000_000), write_log(tmp_path / "b", 90_000_000)
    first = train(2, monday, "first")
    second = train(3, tuesday, "second", "--from", str(first / "teacher.sharded"))
    told = [json.loads((out / "teacher.sharded" / "teacher.json").read_text()) for out in (first, second)]
    assert [(each["learned"], each["lineage"]["ranks"]) for each in told] == [(160, 2), (320, 3)]
    assert told[1]["lineage"]["learned_until_ms"] == 90_000_000 + 159 * 22_500
    assert 0 < told[1]["quality"]["ne_click"] < 3
    snapshots = Snapshots(tmp_path / "snapshots")
    snapshots.publish(second / "teacher.pt", "tuesday")
    snapshot = snapshots.load("tuesday")
    made = annotate(snapshot, *inputs_of(snapshot, 21, 0), "int8")
    assert made.probability.shape == (21, 1)
    assert np.ptp(made.probability) > 0
    assert made.codes.any()
    np.testing.assert_allclose(made.probability, by_ranks(second, snapshots, snapshot).probability, atol=1e-6)
    with pytest.raises(RuntimeError, match="ended with 2"):  # it has learned these rows
        train(1, monday, "third", "--from", str(first / "teacher.sharded"))
    assert not (tmp_path / "third").exists()
    with pytest.raises(RuntimeError, match="ended with 2"):  # a part of it is cut off
        train(1, tuesday, "third", "--from", str(tmp_path / "snapshots" / "damaged.sharded"))


def by_ranks(out: Path, snapshots: Snapshots, whole: Snapshot) -> Annotations:
    """What two ranks say of the same rows, of the shards that three have written."""
    folder = snapshots.path("tuesday").parent
    for _ in range(2):  # again is no harm
        snapshots.publish(out / "teacher.sharded", "shards")
    for checkpoint, name in ((out.parent / "first" / "teacher.sharded", "shards"), (out / "teacher.pt", "shards")):
        with pytest.raises(SnapshotError, match="'shards' is there with other content"):
            snapshots.publish(checkpoint, name)
    with pytest.raises(SnapshotError, match="'tuesday' is there with other content"):
        snapshots.publish(out / "teacher.sharded", "tuesday")
    spread = snapshots.load(snapshots.current())
    assert (spread.name, spread.dimension, spread.learned_until_ms) == ("shards", 8, whole.learned_until_ms)
    with pytest.raises(SnapshotError, match="'shards' has its table in shards: use ranks:N"):
        open_workers("local:0", folder).check(spread)
    shutil.copytree(snapshots.shards("shards"), damaged := snapshots.shards("damaged"))
    for part in damaged.glob("*.distcp"):
        os.truncate(part, part.stat().st_size - 1)
    with closing(open_workers("ranks:2", folder)) as workers:
        workers.check(spread)
        with pytest.raises(SnapshotError, match=r"'damaged': .*can't be read: "):
            workers.submit(Task("damaged", *inputs_of(whole, 21, 0), "int8")).result(60)
        return workers.submit(Task("shards", *inputs_of(whole, 21, 0), "int8")).result(60)


def test_without_torchrun_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("exfm.commands.train_sharded.require_torchrec", lambda: None)
    monkeypatch.delenv("RANK", raising=False)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "python -m exfm.commands.train_sharded: RANK is not set: "
        "start with torchrun --nproc-per-node N -m exfm.commands.train_sharded ...\n"
    )


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "torchrun --nproc-per-node 2" in capsys.readouterr().out
