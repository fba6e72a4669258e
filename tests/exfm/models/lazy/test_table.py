"""The lazy table: 10^12 parameters in a file, commits that survive everything, a disk that is full."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.initial import SPREAD, initial
from exfm.models.lazy.table import LazyTable

TRILLION = TableForm(rows=56_000_000_000, dimension=16, tasks=2)
SMALL = TableForm(rows=1000, dimension=4, tasks=1)
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def learn(table: LazyTable, rows: list[int], by: float) -> None:
    index = np.array(rows, np.int64)
    states = table.read(index)[1]
    table.learn(index, np.full((len(rows), table.form.width), by, np.float32), states + np.float32(1))


def content(table: LazyTable) -> list[bytes]:
    values, states = table.read(np.arange(table.form.rows))
    return [values.tobytes(), np.ascontiguousarray(states).tobytes()]


def test_a_trillion_parameters_take_the_room_of_the_touched_rows(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, TRILLION)
    assert TRILLION.parameters >= 10**12
    assert table.logical_bytes == TRILLION.rows * 80
    assert table.real_bytes == 0
    rows = np.random.default_rng(0).integers(0, TRILLION.rows, 200)
    fresh, states = table.read(rows)
    assert np.array_equal(fresh[:, :16], initial(rows, 16, 0))
    assert not fresh[:, 16:].any()
    assert not states.any()
    assert table.real_bytes == 0  # what is only read takes nothing
    learn(table, rows.tolist(), 0.5)
    np.testing.assert_allclose(table.read(rows)[0], fresh + np.float32(0.5), atol=1e-7)
    assert 0 < table.real_bytes <= 200 * 3 * 4096
    table.commit()
    assert sum(path.stat().st_size for path in tmp_path.glob("commit-*")) < 200 * (8 + 80) + 200
    table.close()
    again = LazyTable(tmp_path, TRILLION)
    np.testing.assert_allclose(again.read(rows)[0], fresh + np.float32(0.5), atol=1e-7)
    again.close()


def test_initial_values_are_spread_as_an_embedding_tables_and_differ_by_place_and_seed() -> None:
    made = initial(np.arange(20_000), 8, 0)
    assert abs(float(made.mean())) < 1e-3
    assert abs(float(made.std()) - SPREAD) < 1e-3
    assert len(np.unique(made)) > 0.98 * made.size
    assert np.array_equal(made[7], initial(np.array([7]), 8, 0)[0])
    assert not np.array_equal(made, initial(np.arange(20_000), 8, 1))


def test_what_was_not_committed_does_not_count(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, SMALL)
    learn(table, [1, 2], 0.5)
    table.commit(b"dense weights")
    kept = content(table)
    learn(table, [2, 3], 9.0)
    table.close()
    again = LazyTable(tmp_path, SMALL)
    assert content(again) == kept
    assert again.note == b"dense weights"
    again.close()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 999), min_size=1, max_size=5, unique=True),
            st.sampled_from(["learn", "commit", "clean", "again"]),
        ),
        max_size=40,
    )
)
def test_any_order_of_steps_commits_and_ends_gives_the_last_commit(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[list[int], str]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = LazyTable(folder, SMALL)
    kept = content(table)
    for number, (rows, deed) in enumerate(deeds):
        learn(table, rows, 0.1 * number)
        if deed in ("commit", "clean"):
            table.commit(str(number).encode())
            kept = content(table)
        if deed in ("clean", "again"):
            table.close()
            table = LazyTable(folder, SMALL)
            assert content(table) == kept
    table.close()


def test_many_commits_become_one(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, SMALL)
    for number in range(40):
        learn(table, [number, 999], 0.5)
        table.commit(str(number).encode())
    kept = content(table)
    table.close()
    assert len(list(tmp_path.glob("commit-*"))) < 20
    (tmp_path / "clean").unlink()
    again = LazyTable(tmp_path, SMALL)
    assert content(again) == kept
    assert again.note == b"39"
    again.close()


def test_old_commits_that_can_not_be_removed_cost_nothing_but_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, unlink = LazyTable(tmp_path, SMALL), Path.unlink

    def stuck(path: Path, *given: Any, **named: Any) -> None:
        if path.name.startswith("commit-") and path.name[-6] in "13579":  # some of them go
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stuck)
        for number in range(20):
            learn(table, [number, 999], 0.5)
            assert table.commit() == number + 1
    kept = content(table)
    table.close()
    assert len(list(tmp_path.glob("commit-*"))) == 12  # 8 odd ones, the one for all before it, and 3 more
    (tmp_path / "clean").unlink()
    again = LazyTable(tmp_path, SMALL)
    assert content(again) == kept
    again.close()


def test_a_process_that_is_killed_leaves_its_last_commit(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.table import LazyTable
table = LazyTable(Path(sys.argv[1]), TableForm(rows=1000, dimension=4, tasks=1))
rows = np.arange(300)
for number in range(1, 1_000_000):
    table.learn(rows, np.ones((300, 5), np.float32), np.full((300, 2), number, np.float32))
    table.commit(str(number).encode())
    sys.stdout.write("x\\n"); sys.stdout.flush()
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    said = 20 + process.communicate()[0].count("\n")
    table = LazyTable(tmp_path, SMALL)
    assert int(table.note) in (said, said + 1)
    assert set(table.read(np.arange(300))[1].ravel().tolist()) == {float(table.note)}
    table.close()


def test_one_process_at_a_time_and_one_form(tmp_path: Path) -> None:
    table = LazyTable(tmp_path, SMALL)
    with pytest.raises(LazyTableError, match="another process"):
        LazyTable(tmp_path, SMALL)
    table.close()
    with pytest.raises(LazyTableError, match="was made as"):
        LazyTable(tmp_path, TRILLION)


@pytest.mark.parametrize("row", [-1, 1000])
def test_a_row_outside_is_refused(tmp_path: Path, row: int) -> None:
    table = LazyTable(tmp_path, SMALL)
    with pytest.raises(LazyTableError, match="0 to 999"):
        table.read(np.array([row]))
    table.close()


@pytest.mark.parametrize("at", [0, 9, -30])
def test_a_damaged_commit_is_noticed(tmp_path: Path, at: int) -> None:
    table = LazyTable(tmp_path, SMALL)
    learn(table, [1, 2, 3], 0.5)
    table.commit()
    table.close()
    (tmp_path / "clean").unlink()
    path = next(tmp_path.glob("commit-*"))
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(LazyTableError, match="commit-"):
        LazyTable(tmp_path, SMALL)


def test_more_than_a_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LazyTableError, match="records of 72 bytes"):
        LazyTable(tmp_path, TableForm(rows=1 << 60, dimension=15, tasks=1))


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode


FULL = """
import json, shutil, sys
from pathlib import Path
import numpy as np
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.table import LazyTable

disk, form = Path(sys.argv[1]), TableForm(rows=10_000_000, dimension=16, tasks=2)
table, errors = LazyTable(disk / "table", form), []
draw = np.random.default_rng(0)
def step(count):
    rows = np.unique(draw.integers(0, form.rows, count))
    table.learn(rows, np.ones((len(rows), 18), np.float32), np.ones((len(rows), 2), np.float32))
    return rows
first = step(100)
table.commit(b"first")
(disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 200 * 1024)))
second = step(10)
before = table.read(second)[0].tobytes()
try:
    step(500)
except LazyTableError as error:
    errors.append(str(error))
touched = draw.integers(0, form.rows, 1)
whole = table.read(second)[0].tobytes() == before
(disk / "more").write_bytes(b"")
try:
    with (disk / "more").open("wb", buffering=0) as more:
        while True:
            more.write(bytes(4096))
except OSError:
    pass
try:
    table.commit(b"never")
except LazyTableError as error:
    errors.append(str(error))
first_there = bool((table.read(first)[1] == 1).all())
(disk / "ballast").unlink()
number = table.commit(b"second")
table.close()
(disk / "table" / "clean").unlink()
table = LazyTable(disk / "table", form)
said = {"errors": errors, "whole": whole, "first": first_there, "number": number, "note": table.note.decode(),
        "kept": bool((table.read(np.union1d(first, second))[1] == 1).all()),
        "stray": int(np.count_nonzero(table.read(np.arange(0, form.rows, 71))[1]))
                 - int(np.count_nonzero(table.read(np.array([r for r in {*first, *second} if r % 71 == 0]))[1]))}
print(json.dumps(said))
"""


@pytest.mark.skipif(not may_mount(), reason="no mount namespaces here")
def test_a_full_disk_is_an_error_that_loses_nothing_committed(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'
    command = [*NAMESPACE, "sh", "-c", mount, "sh", str(tmp_path), sys.executable, "-c", FULL, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert "No space left on device; the step was undone" in said["errors"][0]
    assert "No space left on device; nothing was committed" in said["errors"][1]
    assert (said["whole"], said["first"], said["kept"]) == (True, True, True)
    assert (said["number"], said["note"], said["stray"]) == (2, "second", 0)
