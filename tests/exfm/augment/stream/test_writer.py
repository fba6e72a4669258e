"""The stream: what is committed is there whole, in order, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exfm.augment.stream.writer import StreamError, StreamWriter
from exfm.data.annotated import StreamForm, StreamReader, find_stream
from exfm.data.commits import COMMITS
from exfm.data.cursor import Cursor
from exfm.data.errors import DataError
from exfm.data.source import Source, open_source

DAY_MS = 86_400_000
Make = Callable[..., Source]


def table(form: StreamForm, times: list[int]) -> pa.Table:
    count = len(times)
    columns: dict[str, Any] = {
        "key": pa.array([bytes([n % 256]) * 16 for n in range(count)], pa.binary(16)),
        "time_ms": np.array(times, np.int64),
        "user": np.arange(count),
        "ad": np.arange(count),
        "bid": np.ones(count),
        "vertical": ["clicks"] * count,
        "tier": ["full"] * count,
        "version": np.ones(count, np.int64),
        "snapshot": ["s"] * count,
        "space": np.ones(count, np.int64),
        "z": pa.array([b"\1" * 4] * count, pa.binary()),
        "history": pa.array([b""] * count, pa.binary()),
    }
    for feature in form.schema.features:
        columns[f"f.{feature.name}"] = np.arange(count, dtype=np.float32 if feature.kind == "number" else np.int64)
    for task in form.schema.tasks:
        columns |= {f"{kind}.{task}": np.full(count, 0.5, np.float32) for kind in ("y", "delay", "a")}
    return pa.table(columns)


@pytest.fixture
def form(tiny: Make) -> StreamForm:
    return StreamForm(tiny(1).schema, 8, "int4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stream"


def write(folder: Path, form: StreamForm, *commits: list[int]) -> None:
    writer = StreamWriter(folder, form)
    for times in commits:
        writer.append(table(form, times), writer.last.number + 1, snapshot="s")
    writer.close()


def rows(folder: Path, after: int = 0) -> list[int]:
    return [int(t) for part in StreamReader(folder).read(after) for t in part.examples.time_ms]


def test_rows_come_in_the_order_of_the_commits_whatever_their_days(folder: Path, form: StreamForm) -> None:
    write(folder, form, [5, DAY_MS + 1, 7], [3 * DAY_MS, 9])
    assert rows(folder) == [5, DAY_MS + 1, 7, 3 * DAY_MS, 9]
    assert sorted(path.name for path in folder.glob("day=*")) == ["day=1970-01-01", "day=1970-01-02", "day=1970-01-04"]
    assert find_stream(folder) == folder


@pytest.mark.parametrize("after", range(6))
def test_reading_goes_on_from_any_row(folder: Path, form: StreamForm, after: int) -> None:
    write(folder, form, [1, 2, 3], [4, 5])
    assert rows(folder, after) == [1, 2, 3, 4, 5][after:]
    parts = list(StreamReader(folder).read(after))
    assert [part.first_row for part in parts][:1] == ([after] if after < 5 else [])


def test_a_consumer_reads_each_row_once_through_restarts_and_growth(folder: Path, form: StreamForm) -> None:
    seen: list[int] = []
    for round_number in range(3):
        write(folder, form, [10 * round_number + 1, 10 * round_number + 2])
        cursor = Cursor(folder, "student")
        for part in StreamReader(folder).read(cursor.row):
            seen += [int(t) for t in part.examples.time_ms]
            cursor.move(part.first_row + len(part))
    assert seen == [1, 2, 11, 12, 21, 22]


def test_a_torn_commit_never_counted(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1, 2])
    with (folder / COMMITS).open("ab") as log:
        log.write(b'{"number": 2, "first_row"')
    (folder / "day=1970-01-01" / "part-0000000002.parquet").write_bytes(b"torn")
    assert rows(folder) == [1, 2]
    write(folder, form, [3])
    assert rows(folder) == [1, 2, 3]
    assert not list(folder.glob("*/*.partial"))


def test_a_damaged_commit_or_file_is_named(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1, 2])
    path = folder / "day=1970-01-01" / "part-0000000001.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"part-0000000001\.parquet: cannot be read"):
        rows(folder)
    with (folder / COMMITS).open("ab") as log:
        log.write(b"{}\n")
    with pytest.raises(DataError, match=r"commits\.jsonl.*row 2.*not a commit"):
        rows(folder)


def test_a_gap_between_commits_is_noticed(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1], [2], [3])
    lines = (folder / COMMITS).read_bytes().splitlines(keepends=True)
    (folder / COMMITS).write_bytes(lines[0] + lines[2])
    with pytest.raises(DataError, match="cannot follow"):
        rows(folder)


def test_retention_drops_old_commits_but_not_what_a_cursor_still_needs(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1, 2], [3], [DAY_MS])
    Cursor(folder, "student").move(2)
    writer = StreamWriter(folder, form)
    assert writer.drop_before(DAY_MS) == 2
    assert rows(folder) == [3, DAY_MS]
    Cursor(folder, "student").move(4)
    assert writer.drop_before(DAY_MS) == 1
    writer.append(table(form, [DAY_MS + 1]), 9, snapshot="s")
    writer.close()
    assert rows(folder) == [DAY_MS, DAY_MS + 1]
    with pytest.raises(DataError, match="dropped by retention"):
        rows(folder, 1)


def test_a_stream_of_another_kind_is_not_written(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1])
    with pytest.raises(StreamError, match="another kind of embedding"):
        StreamWriter(folder, StreamForm(form.schema, 16, "int4"))
    write(folder, form, [2])  # and the refused one holds no lock


def test_a_full_disk_is_a_stream_error_and_loses_nothing(
    folder: Path, form: StreamForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StreamWriter(folder, form)
    writer.append(table(form, [1]), 1, snapshot="s")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("exfm.augment.stream.writer.pa_parquet.write_table", full)
        with pytest.raises(StreamError, match="No space left"):
            writer.append(table(form, [2]), 2, snapshot="s")
    writer.append(table(form, [2]), 2, snapshot="s")
    writer.close()
    assert rows(folder) == [1, 2]


def test_a_commit_that_was_half_written_is_taken_back(
    folder: Path, form: StreamForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StreamWriter(folder, form)
    writer.append(table(form, [1]), 1, snapshot="s")

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write", lambda *_: iter(()))
        patch.setattr("exfm.augment.stream.writer.os.fsync", refuse)
        with pytest.raises(StreamError, match="Input/output"):
            writer.append(table(form, [2]), 2, snapshot="s")
    writer.append(table(form, [3]), 2, snapshot="s")
    writer.close()
    assert rows(folder) == [1, 3]


def test_training_reads_a_stream_as_any_log(folder: Path, form: StreamForm) -> None:
    write(folder, form, [5, 9], [7])
    source = open_source(folder)
    assert source.examples.time_ms.tolist() == [5, 7, 9]
    assert source.examples.annotations["click"].tolist() == [0.5] * 3
    assert source.schema.digest == form.schema.digest


def test_an_empty_stream_is_no_log(folder: Path, form: StreamForm) -> None:
    write(folder, form)
    with pytest.raises(DataError, match="no rows yet"):
        open_source(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"format": 2, "codec": "int4"}', "[]"])
def test_a_head_that_is_none_is_named(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "stream.json").write_text(content)
    with pytest.raises(DataError, match=r"stream\.json"):
        StreamReader(folder)


def test_a_cursor_is_a_name_and_a_number(folder: Path, form: StreamForm) -> None:
    write(folder, form, [1])
    with pytest.raises(ValueError, match="a name is made of"):
        Cursor(folder, "../up")
    cursor = Cursor(folder, "a")
    assert cursor.row == 0
    cursor.move(3)
    assert Cursor(folder, "a").row == 3
    (folder / "cursors" / "a").write_text("x")
    with pytest.raises(DataError, match="no row number"):
        _ = cursor.row


def test_retention_leaves_one_commit_with_the_sums_and_no_file_of_what_is_gone(folder: Path, form: StreamForm) -> None:
    writer = StreamWriter(folder, form)
    for number, (times, dead) in enumerate([([1, 2], 1), ([], 2), ([3], 0), ([], 4), ([DAY_MS], 0)], 1):
        counts = {"unsaid": number, "lag_ms": number}
        writer.append(table(form, times), number, snapshot="s", dead=b"x\n" * dead, dead_rows=dead, counts=counts)
    assert writer.drop_before(DAY_MS) == 3
    first, waiting, _ = commits = StreamReader(folder).commits()
    assert (first.number, first.rows, first.end_row, first.position, first.dead) == (3, 3, 3, 3, 3)
    assert (first.oldest_ms, first.newest_ms, first.counts) == (1, 3, {"unsaid": 6, "lag_ms": 3})
    assert (waiting.number, waiting.dead) == (4, 4)  # as young as what comes behind it
    assert [path.name for path in (folder / "dead").iterdir()] == [Path(waiting.dead_file).name]
    assert [path.name for path in folder.glob("day=*")] == ["day=1970-01-02"]
    assert (sum(each.rows for each in commits), sum(each.dead for each in commits)) == (4, 7)
    writer.append(table(form, [2 * DAY_MS]), 6, snapshot="s")
    assert writer.drop_before(2 * DAY_MS) == 1
    assert [each.number for each in StreamReader(folder).commits()] == [5, 6]
    writer.close()
    (folder / "dead").mkdir(exist_ok=True)
    (folder / "dead" / "dead-0000000004.jsonl").write_bytes(b"a crash left it")
    writer = StreamWriter(folder, form)
    assert writer.append(table(form, [2 * DAY_MS]), 7, snapshot="s").first_row == 5
    writer.close()
    assert not list(folder.glob("dead/*"))
    assert rows(folder) == [2 * DAY_MS, 2 * DAY_MS]


def test_a_cursor_that_is_none_stops_retention_and_names_it(folder: Path, form: StreamForm) -> None:
    writer = StreamWriter(folder, form)
    writer.append(table(form, [1]), 1, snapshot="s")
    stray = folder / "cursors" / "stray"
    stray.mkdir(parents=True)
    with pytest.raises(StreamError, match="stray"):
        writer.drop_before(DAY_MS)
    stray.rmdir()
    stray.write_text("junk")
    with pytest.raises(StreamError, match="stray: 'junk' is no row number"):
        writer.drop_before(DAY_MS)
    stray.unlink()
    assert writer.drop_before(DAY_MS) == 1
    writer.close()
