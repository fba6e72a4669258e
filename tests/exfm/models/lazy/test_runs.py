"""Runs of rows: merged in pieces they are what they are when merged at once."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exfm.models.lazy import runs
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.records import Bytes, Ints
from exfm.models.lazy.runs import Run, merged_records, merged_rows
from exfm.models.lazy.table import LazyTable

SIZE = 3


def records_of(rows: Ints, number: int) -> Bytes:
    return np.stack([rows % 256, rows // 256, np.full(len(rows), number)], 1).astype(np.uint8)


def in_file(path: Path, rows: Ints, number: int) -> Run:
    path.write_bytes(b"head" + rows.tobytes() + records_of(rows, number).tobytes() + b"note")
    return Run.in_file(path, 4, len(rows), SIZE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 60_000) | st.integers(0, 20)), max_size=5), st.integers(1, 9))
def test_the_latest_run_of_a_row_counts(
    tmp_path_factory: pytest.TempPathFactory, drawn: Sequence[set[int]], piece: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    every = [np.array(sorted(each), np.int64) for each in drawn]
    made = [in_file(folder / str(number), rows, number) for number, rows in enumerate(every[:-1])]
    if every:
        made.append(Run.of(every[-1], lambda rows: records_of(rows, len(every) - 1)))
    wanted = {row: number for number, rows in enumerate(drawn) for row in rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "PIECE", piece)
        rows, records = list(merged_rows(made)), list(merged_records(made))
        alone = [piece for run in made for piece in run.pieces()]
    assert [len(each) for each in rows] == [len(each) for each in records]
    assert max(map(len, rows), default=0) <= max(piece, len(made))
    assert np.array_equal(np.concatenate([np.empty(0, np.int64), *rows]), sorted(wanted))
    for some, theirs in zip(rows, records, strict=True):
        assert np.array_equal(
            theirs, np.concatenate([records_of(some[i : i + 1], wanted[int(row)]) for i, row in enumerate(some)])
        )
    assert [row for some, _ in alone for row in some.tolist()] == [row for each in every for row in each.tolist()]


def test_a_commit_that_stands_for_all_is_never_in_memory(tmp_path: Path) -> None:
    form = TableForm(rows=10**9, dimension=16, tasks=2)
    every = np.random.default_rng(0).permutation(200_000)
    table = LazyTable(tmp_path, form)
    for number, rows in enumerate([*np.array_split(every, 16), every[:10]]):
        table.learn(rows, np.full((len(rows), 18), number, np.float32), np.ones((len(rows), 2), np.float32))
        tracemalloc.start()
        table.commit(b"note")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    (only,) = tmp_path.glob("commit-*")
    assert only.stat().st_size > 17e6
    assert most < 12e6
    kept = table.read(every)[0].tobytes()
    table.close()
    (tmp_path / "clean").unlink()
    again = LazyTable(tmp_path, form)
    assert (again.number, again.note, again.read(every)[0].tobytes()) == (17, b"note", kept)
    again.close()
