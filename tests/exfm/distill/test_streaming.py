"""Training over a stream: each row once across runs, in order of time, with windows of bounded size."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exfm.augment.annotate.snapshots import snapshot_of
from exfm.data.annotated import StreamReader
from exfm.data.continued import ContinuationError
from exfm.data.cursor import Cursor, lowest_cursor
from exfm.data.errors import DataError
from exfm.data.source import Source, annotated_source
from exfm.data.windows import windows
from exfm.distill import report, state_file, streaming
from exfm.distill.config import ConfigError, HistoryOptions, TrainConfig
from exfm.distill.continual import Continued
from exfm.distill.state_file import StateError
from exfm.distill.streaming import STATE, StreamOrder, consumer_of, train_stream
from exfm.distill.trainer import TrainingError
from exfm.distill.training import train
from exfm.models.checkpoint import load_checkpoint

Make = Callable[..., Source]
Write = Callable[..., Path]


@pytest.fixture
def settings(config: TrainConfig) -> TrainConfig:
    """With all that must go on: histories, dropout, a shuffle, averages."""
    return replace(config, history=HistoryOptions(length=3, delay_ms=60_000))


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "draw", lambda *_: None)


def weights(out: Path) -> dict[str, torch.Tensor]:
    paths = [out / "teacher.pt", *sorted((out / "students").glob("*.pt"))]
    return {f"{path.name}:{name}": value for path in paths for name, value in load_checkpoint(path).state.items()}


def same(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


class Watched:
    """The rows that each run learned, by the times of its windows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows: list[Any] = []
        learn = Continued.learn

        def watched(continued: Continued, window: Any, progress: Any) -> Any:
            self.windows.append(window)
            return learn(continued, window, progress)

        monkeypatch.setattr(Continued, "learn", watched)

    @property
    def times(self) -> list[int]:
        return [int(each) for window in self.windows for each in window.examples.time_ms]


def test_runs_over_what_has_come_since_learn_what_one_run_learns(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, watched = tiny(400), Watched(monkeypatch)
    stream = write_stream(source, 40, 0, 200)
    order = StreamOrder(stream, tmp_path / "two", resume=True, window=100)
    first = train_stream(order, settings)
    write_stream(source, 40, 200)
    second = train_stream(order, settings)
    assert (first.rows, second.rows) == (200, 200)
    assert watched.times == source.examples.time_ms.tolist()  # each once, in order
    assert max(len(each.examples) for each in watched.windows) < 100 + 40
    nothing = train_stream(order, settings)
    assert (nothing.rows, nothing.place["learned"]) == (0, 400)
    assert nothing.verticals == second.verticals
    watched.windows.clear()
    # The windows end where the first run's did: 120, 200 (its end), 320, 400.
    whole = replace(order, out=tmp_path / "one", window=400)
    cuts = iter([120, 80, 120, 80])
    monkeypatch.setattr(streaming, "windows", lambda read, place, *_: _cut(read, place, cuts))
    train_stream(whole, settings)
    assert watched.times == source.examples.time_ms.tolist()
    assert same(tmp_path / "one", tmp_path / "two")


def test_a_teacher_with_a_table_on_disk_goes_on_too(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    source = tiny(400)

    def run(name: str, stream: Path) -> int:
        teacher = replace(settings.teacher, table=f"lazy:{tmp_path / name}.table")
        order = StreamOrder(stream, tmp_path / name, resume=True, window=200)
        return train_stream(order, replace(settings, teacher=teacher)).rows

    def answers(name: str) -> list[bytes]:
        model = snapshot_of(name, load_checkpoint(tmp_path / name / "teacher.pt")).model
        every = torch.arange(source.schema.rows)
        return [
            model.table(every).detach().numpy().tobytes(),
            *(value.detach().numpy().tobytes() for value in model.parameters()),
        ]

    stream = write_stream(source, 40, 0, 200)
    assert run("two", stream) == 200
    half = answers("two")
    write_stream(source, 40, 200)
    assert run("two", stream) == 200
    assert run("one", stream) == 400
    assert answers("one") == answers("two") != half


def _cut(stream: Any, place: Any, sizes: Iterator[int]) -> Iterator[Any]:
    for size in sizes:
        window = next(windows(stream, place, size))
        place = window.after
        yield window


def test_one_window_learns_what_the_stream_as_a_file_gives(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    stream = write_stream(tiny(500), 100)
    told = train_stream(StreamOrder(stream, tmp_path / "stream"), settings)
    file = train(annotated_source(stream), settings, tmp_path / "file")
    for name, tasks in file.verticals.items():
        for task, each in tasks.items():
            made = told.verticals[name][task]
            assert made.rows == each.rows
            assert made.auc == pytest.approx(each.auc, abs=2e-3)
            assert made.ne == pytest.approx(each.ne, abs=2e-3)
    one, other = (load_checkpoint(tmp_path / which / "students" / "clicks.pt") for which in ("stream", "file"))
    assert one.schema == other.schema
    assert {**one.lineage, "teacher_snapshot": ""} == {**other.lineage, "teacher_snapshot": ""}
    one.build()


def _killed_at(point: str, order: StreamOrder, settings: TrainConfig) -> None:
    """In a process of its own: end it by kill -9 at a certain point of its run."""

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "between two checkpoints":
        learn, count = Continued.learn, iter(range(9))
        Continued.learn = lambda *given: die() if next(count) == 2 else learn(*given)  # type: ignore[assignment]
    elif point == "while a checkpoint is written":
        state_file.os.fsync = die  # type: ignore[attr-defined]
    else:
        setattr(streaming, "write_report", die)  # noqa: B010  # not exported from there
    train_stream(order, settings)


def test_a_killed_run_is_made_up_for_to_the_bit(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path, apart: Any
) -> None:
    stream = write_stream(tiny(400), 40)
    whole = StreamOrder(stream, tmp_path / "whole", window=100)
    train_stream(whole, settings)
    left = {"between two checkpoints": 160, "while a checkpoint is written": 400, "behind publishing": 40}
    for point, rows in left.items():
        order = replace(whole, out=tmp_path / point, resume=True, checkpoint_s=0.0)
        child = apart(_killed_at, point, order, settings)
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        made = train_stream(order, settings)
        assert (made.place["learned"], made.rows) == (400, rows)
        assert same(whole.out, order.out)
        assert Cursor(stream, consumer_of(order.out)).row == 400


def test_a_table_beside_its_checkpoint_outlives_a_kill(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path, apart: Any
) -> None:
    source, out = tiny(400), tmp_path / "run"
    own = replace(settings, teacher=replace(settings.teacher, table=f"lazy:{out}"))
    order = StreamOrder(write_stream(source, 40, 0, 120), out, resume=True, window=40)

    def killed(point: str) -> None:
        child = apart(_killed_at, point, order, own)
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL

    def said() -> bytes:
        """By the teacher that is published, of all rows of its table."""
        model = snapshot_of("teacher", load_checkpoint(out / "teacher.pt")).model
        rows: torch.Tensor = model.table(torch.arange(source.schema.rows))
        return rows.detach().numpy().tobytes()

    assert train_stream(order, own).rows == 120
    first = said()
    write_stream(source, 40, 120, 240)
    killed("behind publishing")
    second = said()
    assert second != first
    killed("between two checkpoints")  # it has gone back to before what was published
    assert said() == second
    assert train_stream(order, own).rows == 120
    assert said() == second
    write_stream(source, 40, 240)
    assert train_stream(order, own).rows == 160
    assert said() != second
    assert len(list((out / "tables").iterdir())) == 2  # the last two to go on from, one of them the teacher's


def test_a_log_comes_before_its_stream_and_is_read_once(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, watched = tiny(400), Watched(monkeypatch)
    log = replace(source, examples=source.examples.slice(0, 250))
    stream, asked = write_stream(source, 50, 250, 350), []
    order = StreamOrder(stream, tmp_path / "run", lambda: asked.append(1) or log, resume=True, window=100)  # type: ignore[func-returns-value]
    assert train_stream(order, settings).place == {"log": 250, "row": 100, "commit": 2, "learned": 350}
    write_stream(source, 50, 350)
    assert train_stream(order, settings).rows == 50
    assert len(asked) == 1
    assert watched.times == source.examples.time_ms.tolist()
    other = replace(order, out=tmp_path / "other", log=None)
    train_stream(other, settings)
    with pytest.raises(TrainingError, match="has begun without a log"):
        train_stream(replace(other, log=order.log), settings)
    late = replace(source, examples=source.examples.slice(0, 300))
    with pytest.raises(ContinuationError, match="begins before the log ends"):
        train_stream(replace(order, out=tmp_path / "late", log=lambda: late), settings)


def test_runs_into_two_folders_keep_retention_from_each_other(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    stream = write_stream(tiny(120), 60, 0, 60)
    slow = StreamOrder(stream, tmp_path / "here" / "my run", resume=True)
    quick = replace(slow, out=tmp_path / "there" / "my run")
    train_stream(slow, settings)
    train_stream(quick, settings)
    write_stream(tiny(120), 60, 60)
    train_stream(quick, settings)
    assert lowest_cursor(stream, 999) == 60
    assert train_stream(slow, settings).rows == 60
    assert sorted(path.name for path in (stream / "cursors").iterdir()) == sorted(
        consumer_of(each.out) for each in (slow, quick)
    )


@pytest.mark.parametrize(("row", "ours"), [(60, True), (40, False)])
def test_the_cursor_of_an_earlier_version_becomes_the_runs_own_or_is_named(
    tiny: Make,
    config: TrainConfig,
    write_stream: Write,
    tmp_path: Path,
    *,
    row: int,
    ours: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = write_stream(tiny(120), 30, 0, 60)
    order = StreamOrder(stream, tmp_path / "one", resume=True)
    train_stream(order, config)
    own, former = Cursor(stream, consumer_of(order.out)), Cursor(stream, "train")
    own.path.unlink()  # as that version left it
    former.move(row)
    write_stream(tiny(120), 30, 60)
    assert train_stream(order, config).rows == 60
    assert (own.row, former.there) == (120, not ours)
    assert lowest_cursor(stream, 999) == (120 if ours else row)
    said = f"is now {consumer_of(order.out)!r}" if ours else f"waits at row 40 .* delete {former.path} unless"
    assert re.search(said, caplog.text)


def test_a_cursor_that_another_run_moves_is_refused(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    stream = write_stream(tiny(120), 60, 0, 60)
    order = StreamOrder(stream, tmp_path / "one", resume=True, consumer="shared")
    train_stream(order, settings)
    write_stream(tiny(120), 60, 60)
    train_stream(replace(order, out=tmp_path / "two"), settings)
    with pytest.raises(
        TrainingError, match=r"cursor 'shared' is at row 120, .*one/training\.pt at 60: another run moves"
    ):
        train_stream(order, settings)
    assert train_stream(replace(order, consumer="own"), settings).rows == 60


def test_another_stream_other_settings_and_a_damaged_state_are_refused(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    order = StreamOrder(write_stream(tiny(100), 50), tmp_path / "run", resume=True)
    train_stream(order, settings)
    with pytest.raises(TrainingError, match=r"training\.pt: is there from an earlier run"):
        train_stream(replace(order, resume=False), settings)
    with pytest.raises(TrainingError, match=r"other settings: distill\.weight was 2\.0, is 3\.0"):
        train_stream(order, replace(settings, distill=replace(settings.distill, weight=3.0)))
    with pytest.raises(ConfigError, match=r"stream\.holdout_s"):
        train_stream(order, replace(settings, stream=replace(settings.stream, holdout_s=1.0)))
    (order.stream / "commits.jsonl").unlink()
    write_stream(tiny(100), 30)
    with pytest.raises(DataError, match="another stream was read before"):
        train_stream(order, settings)
    with state_file.alone(order.out), pytest.raises(StateError, match="another run writes there"):
        train_stream(order, settings)
    (order.out / STATE).write_bytes(b"junk")
    with pytest.raises(StateError, match=r"training\.pt: not a readable state"):
        train_stream(order, settings)


def test_what_comes_late_is_not_annotated_by_who_knows_the_future(
    tiny: Make, settings: TrainConfig, write_stream: Write
) -> None:
    source = tiny(300)
    turned = source.examples.take(np.concatenate([np.arange(100, 300), np.arange(100)]))
    stream = StreamReader(write_stream(replace(source, examples=turned), 100))
    learned, bare = Continued(stream.form, settings), Continued(stream.form, settings)
    for window in windows(stream, learned.place, 100):
        learned.learn(window, lambda _: None)
        bare.learn(replace(window, examples=replace(window.examples, annotations={})), lambda _: None)
    late = learned.latest["clicks"].time_ms < source.examples.time_ms[100]
    assert late.sum() == 100
    assert not np.isnan(learned.latest["clicks"].arms["teacher"]).any()  # the stream's own annotations stand
    said = bare.latest["clicks"].arms["teacher"][:, 0]
    np.testing.assert_array_equal(np.isnan(said), late)


def test_a_vertical_is_published_once_rows_of_it_have_come(
    tiny: Make, settings: TrainConfig, write_stream: Write, tmp_path: Path
) -> None:
    source = tiny(200)
    early = np.where(np.arange(200) < 100, np.nan, source.examples.labels["buy"]).astype(np.float32)
    served = replace(source, examples=replace(source.examples, labels={**source.examples.labels, "buy": early}))
    order = StreamOrder(write_stream(served, 100, 0, 100), tmp_path / "run", resume=True)
    assert list(train_stream(order, settings).verticals) == ["clicks"]
    assert [path.name for path in sorted((order.out / "students").iterdir())] == ["clicks.lite.pt", "clicks.pt"]
    write_stream(served, 100, 100)
    assert list(train_stream(order, settings).verticals) == ["clicks", "buys"]
    load_checkpoint(order.out / "students" / "buys.pt").build()
