"""A teacher with a table on disk: settings alone make the difference, in training, publishing and annotation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exfm.augment.annotate.forward import annotate
from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.data.source import Source
from exfm.distill import training
from exfm.distill.config import ConfigError, Rates, TrainConfig, load_config
from exfm.distill.lazy import RunTable, setting_of, table_schema
from exfm.distill.learners import TeacherLearner
from exfm.distill.optimizer import RowAdagrad, first_order_rates
from exfm.distill.stream import TeacherStream
from exfm.distill.training import train
from exfm.features.schema import Schema
from exfm.models.checkpoint import CheckpointError, load_checkpoint
from exfm.models.embedding import EmbeddingTable
from exfm.models.lazy import setting
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.setting import LazySetting
from exfm.models.lazy.sharded import write_index

Make = Callable[..., Source]
Floats = NDArray[np.float32]
ROWS = 200


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of a small run's time."""
    monkeypatch.setattr(training, "write_report", lambda *_: None)


def configured(config: TrainConfig, table: str) -> TrainConfig:
    return replace(config, teacher=replace(config.teacher, table=table), lite=replace(config.lite, train=False))


def said(
    folder: Path, name: str, source: Source, config: TrainConfig
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What a published snapshot says of the source's rows."""
    stream = TeacherStream.of(source, config)
    return annotate(Snapshots(folder).load(name), stream.rows, stream.counters, "int8").probability


def loss_of(table: EmbeddingTable | LazyEmbedding, rows: torch.Tensor) -> torch.Tensor:
    embeddings, first_order = table.split(table(rows))
    return ((embeddings.prod(1).sum(1, keepdim=True) * 50 + first_order - 1) ** 2).mean()


def test_it_learns_as_the_table_in_memory_does(schema: Schema, tmp_path: Path) -> None:
    rates = Rates(table=0.2, first_order=0.1, multipliers={"ad_id": 3.0})
    lazy = RunTable(LazySetting((tmp_path,)), schema, rates, seed=0)
    embedding, stacked = lazy.make(schema.rows, 4, 2), EmbeddingTable(schema.rows, 4, 2)
    every = np.arange(schema.rows)
    with torch.no_grad():
        stacked.weight.copy_(torch.from_numpy(lazy.table.read(every)[0]))
    optimizer = RowAdagrad(stacked, 0.2, first_order_rates(schema, 0.1, rates.multipliers))
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        rows = torch.randint(0, schema.rows, (64, 3), generator=draw)
        ours, theirs = loss_of(embedding, rows), loss_of(stacked, rows)
        torch.testing.assert_close(ours, theirs)
        for loss, step in ((ours, lazy.step), (theirs, optimizer.step)):
            torch.autograd.backward(loss)
            step(64)
    values = torch.from_numpy(lazy.table.read(every)[0])
    torch.testing.assert_close(values, stacked.weight.detach(), atol=1e-5, rtol=1e-4)
    lazy.close()


def test_settings_alone_train_publish_and_annotate_in_parts_as_in_one(
    tiny: Make, config: TrainConfig, tmp_path: Path
) -> None:
    source, reports, states, answers = tiny(ROWS), [], [], []
    for name, folders in (("one", "a"), ("two", "b,c")):
        places = ",".join(str(tmp_path / each) for each in folders.split(","))
        own = configured(config, f"lazy:{places}?buckets=9000000000")
        reports.append(train(source, own, tmp_path / name).to_dict() | {"seconds": 0})
        assert not any((tmp_path / each).exists() for each in folders.split(","))
        Snapshots(tmp_path / "snapshots").publish(tmp_path / name / "teacher.pt", name)
        states.append(load_checkpoint(tmp_path / name / "teacher.pt").state)
        answers.append(said(tmp_path / "snapshots", name, source, own))
    assert reports[0] == reports[1]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0] if key != "table.digest")
    np.testing.assert_array_equal(answers[0], answers[1])
    assert source.schema != table_schema(own.teacher, source.schema)
    assert load_checkpoint(tmp_path / "two" / "teacher.pt").schema == source.schema


def test_a_snapshot_is_what_it_was_whatever_happens_to_the_rest(
    tiny: Make, config: TrainConfig, tmp_path: Path
) -> None:
    source, out, folder = tiny(ROWS), tmp_path / "out", tmp_path / "snapshots"
    own = configured(config, f"lazy:{tmp_path / 'table'}")
    train(source, own, out)
    Snapshots(folder).publish(out / "teacher.pt", "monday")
    before, there = said(folder, "monday", source, own), sorted((out / "tables").iterdir())
    train(source, replace(own, seed=1), out)
    assert len(list((out / "tables").iterdir())) == 1
    assert not there[0].exists()
    np.testing.assert_array_equal(said(folder, "monday", source, own), before)
    with pytest.raises(SnapshotError, match="publish under a new name"):
        Snapshots(folder).publish(out / "teacher.pt", "monday")
    Snapshots(folder).publish(out / "teacher.pt", "tuesday")
    assert not np.array_equal(said(folder, "tuesday", source, own), before)
    assert Snapshots(folder).load("tuesday").id.split("-")[1] != Snapshots(folder).load("monday").id.split("-")[1]


def test_a_teacher_held_out_has_the_table_of_then(tiny: Make, config: TrainConfig, tmp_path: Path) -> None:
    source, tables = tiny(ROWS), []
    for seconds in (0.0, 86_400.0):
        own = configured(config, f"lazy:{tmp_path / 'table'}")
        own = replace(own, stream=replace(own.stream, holdout_s=seconds))
        train(source, own, tmp_path / f"{seconds:.0f}")
        made = load_checkpoint(tmp_path / f"{seconds:.0f}" / "teacher.pt").build()
        tables.append(made.table)
    changed = [(table(torch.arange(source.schema.rows)) != 0)[:, -2:].any(1).sum() for table in tables]  # type: ignore[operator]
    assert 0 < changed[1] < changed[0]


def test_a_teacher_without_its_table_is_refused(tiny: Make, config: TrainConfig, tmp_path: Path) -> None:
    train(tiny(ROWS), configured(config, f"lazy:{tmp_path / 'table'}"), tmp_path / "out")
    with pytest.raises(CheckpointError, match="expected a student's checkpoint, got a teacher's"):
        load_checkpoint(tmp_path / "out" / "teacher.pt").build_student()
    commit = next((tmp_path / "out" / "tables").rglob("commit-*"))
    whole = commit.read_bytes()
    commit.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SnapshotError, match="the commit is damaged"):
        Snapshots(tmp_path / "snapshots").publish(tmp_path / "out" / "teacher.pt", "monday")
    (tmp_path / "out" / "teacher.pt").rename(tmp_path / "teacher.pt")
    with pytest.raises(SnapshotError, match=r"tables/[0-9a-f]{16}: the table of this teacher is not there"):
        Snapshots(tmp_path / "snapshots").publish(tmp_path / "teacher.pt", "monday")
    assert not [path for path in (tmp_path / "snapshots").rglob("*") if path.is_file() or path.name != "tables"]


def learner_of(schema: Schema, config: TrainConfig, table: str) -> TeacherLearner:
    return TeacherLearner(schema, ("click",), 2, replace(config.teacher, table=table), seed=0, batch=50)


def learn(learner: TeacherLearner, schema: Schema, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, schema.rows, (100, 6))
    labels = draw.integers(0, 2, (100, 1)).astype(np.float32)
    learner.learn(rows, np.zeros((100, 2), np.float32), labels)


def test_a_table_of_another_run_is_left_alone(schema: Schema, config: TrainConfig, tmp_path: Path) -> None:
    table = f"lazy:{tmp_path}"
    first = learner_of(schema, config, table)
    learn(first, schema, 0)
    first.state()
    first.close()
    second, there = learner_of(schema, config, table), sorted(tmp_path.rglob("commit-*"))
    with pytest.raises(ConfigError, match=r"teacher.table: .* holds what another run has committed"):
        learn(second, schema, 0)
    second.close()
    assert sorted(tmp_path.rglob("commit-*")) == there != []


@pytest.mark.parametrize("parts", [1, 2])
def test_a_run_goes_on_from_what_was_carried(schema: Schema, config: TrainConfig, tmp_path: Path, parts: int) -> None:
    table, every = "lazy:" + ",".join(str(tmp_path / str(part)) for part in range(parts)), np.arange(schema.rows)

    def held(learner: TeacherLearner) -> list[bytes]:
        assert learner.lazy
        return [np.ascontiguousarray(each).tobytes() for each in learner.lazy.table.read(every)]

    carried, contents, first = [], [], learner_of(schema, config, table)
    for seed in range(4):
        learn(first, schema, seed)
        assert first.lazy
        carried.append(first.lazy.carried())
        contents.append(held(first))
    learn(first, schema, 4)
    first.close()
    assert len(list((tmp_path / "0" / "tables").iterdir())) == 2
    for place in (3, 2):  # as it ended, and as of the commit before
        again = learner_of(schema, config, table)
        assert again.lazy
        again.lazy.resume(carried[place])
        assert held(again) == contents[place]
        learn(again, schema, 9)
        again.close()
    again = learner_of(schema, config, table)
    assert again.lazy
    with pytest.raises(LazyTableError, match="is not there"):
        again.lazy.resume(carried[0])
    again.close()


@pytest.mark.parametrize(("parts", "cut"), [(1, "thaw"), (2, "write_index")])
def test_going_back_to_what_was_carried_may_be_cut_off(
    tiny: Make, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, parts: int, cut: str
) -> None:
    table, schema = "lazy:" + ",".join(str(tmp_path / str(part)) for part in range(parts)), tiny(1).schema

    first = learner_of(schema, config, table)
    learn(first, schema, 0)
    assert first.lazy
    carried, every = first.lazy.carried(), np.arange(schema.rows)
    kept = first.lazy.table.read(every)[0].tobytes()
    learn(first, schema, 1)
    first.lazy.carried()
    first.close()

    def run_table() -> RunTable:
        lazy = learner_of(schema, config, table).lazy
        assert lazy
        return lazy

    def die(place: Path, *given: Any) -> None:
        if given and given[-1]:  # what comes before all is removed
            raise KeyboardInterrupt
        write_index(place, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(setting, cut, die)
        with pytest.raises(KeyboardInterrupt):
            run_table().resume(carried)
    again = run_table()
    again.resume(carried)
    assert again.table.read(every)[0].tobytes() == kept
    again.close()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("disk:/x", "is not of the form lazy:FOLDER"),
        ("lazy:", "is not of the form"),
        ("lazy:/x,,/y", "is not of the form"),
        ("lazy:/x,/x", "names a folder twice"),
        ("lazy:/x?buckets=1", "buckets must be 2 to"),
        ("lazy:/x?buckets=many", "invalid literal"),
        ("lazy:/x?bukets=5", "'bukets' is not known"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(f'[teacher]\ntable = "{text}"\n')
    with pytest.raises(ConfigError, match=f"teacher.table: .*{error}"):
        setting_of(load_config("tiny", tmp_path / "own.toml").teacher)
