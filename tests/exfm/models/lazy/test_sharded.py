"""A table in parts, each with a process: what it holds is what one table would hold, whatever dies or fills up."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import ReadTable, Table, TableForm
from exfm.models.lazy.frozen import FrozenTable, freeze, frozen_at
from exfm.models.lazy.sharded import ShardedTable
from exfm.models.lazy.table import LazyTable

FORM = TableForm(rows=1001, dimension=4, tasks=1, seed=3)
EVERY = np.arange(FORM.rows)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}


def folders(home: Path, parts: int = 2) -> list[Path]:
    return [home / f"part-{number}" for number in range(parts)]


def step(table: Table, seed: int, count: int = 300) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.permutation(FORM.rows)[:count]
    states = table.read(rows)[1] + draw.random((count, 2), np.float32)
    table.learn(rows, draw.standard_normal((count, FORM.width), np.float32), states)


def content(table: ReadTable) -> list[bytes]:
    return [np.ascontiguousarray(each).tobytes() for each in table.read(EVERY)]


def test_it_is_one_table_to_the_bit(tmp_path: Path) -> None:
    one, parts = LazyTable(tmp_path / "one", FORM), ShardedTable(folders(tmp_path, 3), FORM)
    for number in range(4):
        for table in (one, parts):
            step(table, number)
        if number < 3:
            assert one.commit(b"note") == parts.commit(b"note") == number + 1
    assert content(one) == content(parts)
    shuffled = np.random.default_rng(9).permutation(FORM.rows)
    np.testing.assert_array_equal(one.read(shuffled)[0], parts.read(shuffled)[0])
    assert one.logical_bytes == parts.logical_bytes
    assert parts.real_bytes > 0
    with pytest.raises(LazyTableError, match="rows must be 0 to 1000"):
        parts.read(np.array([1001]))
    kept = [content(FrozenTable(frozen_at(tmp_path, freeze(each, tmp_path)))) for each in (one, parts)]
    for table in (one, parts):
        table.close()
    again = LazyTable(tmp_path / "one", FORM), ShardedTable(folders(tmp_path, 3), FORM)
    assert [content(each) for each in again] == kept
    assert kept[0] == kept[1]
    assert again[1].note == b"note"
    for table in again:
        table.close()
    with pytest.raises(LazyTableError, match="in 3 parts"):
        ShardedTable(folders(tmp_path, 2), FORM)


def test_a_part_that_is_killed_is_named_and_nothing_committed_is_lost(tmp_path: Path) -> None:
    table = ShardedTable(folders(tmp_path), FORM)
    step(table, 0)
    table.commit(b"first")
    kept = content(table)
    step(table, 1)
    os.kill(table.shards[1].pid, 9)
    for attempt in (lambda: step(table, 2), lambda: table.commit(b"never"), lambda: content(table)):
        with pytest.raises(LazyTableError, match=r"part-1: the process of this part .* status -9; what was committed"):
            attempt()
    table.close()
    again = ShardedTable(folders(tmp_path), FORM)
    assert (again.number, again.note, content(again)) == (1, b"first", kept)
    again.close()


def test_a_commit_that_the_index_does_not_name_is_forgotten(tmp_path: Path) -> None:
    table = ShardedTable(folders(tmp_path), FORM)
    step(table, 0)
    table.commit()
    kept, index = content(table), (tmp_path / "part-0" / "shards.json").read_bytes()
    step(table, 1)
    table.commit()
    table.close()
    (tmp_path / "part-0" / "shards.json").write_bytes(index)  # as if all ended before it was written
    again = ShardedTable(folders(tmp_path), FORM)
    assert (again.number, content(again)) == (1, kept)
    again.close()
    (tmp_path / "part-0" / "shards.json").unlink()
    with pytest.raises(LazyTableError, match="which of them count"):
        ShardedTable(folders(tmp_path), FORM)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"form\xff"', "decode"),
        (b'{"form"', "Expecting"),
        (b"[1, 2]", "not an object of fields"),
        (b'{"parts": 2, "number": 1}', "field 'form' is missing"),
        (b'{"form": {"rows": -1}, "parts": 2, "number": 1}', "field 'rows' is -1"),
        (b'{"form": %s, "number": 1}', "field 'parts' is missing"),
        (b'{"form": %s, "parts": 2, "number": "last"}', "field 'number' is 'last'"),
        (b'{"form": %s, "parts": 3, "number": 1}', "in 3 parts"),
    ],
)
def test_a_foreign_index_is_told_by_name_and_field(tmp_path: Path, text: bytes, why: str) -> None:
    (index := folders(tmp_path)[0] / "shards.json").parent.mkdir()
    index.write_bytes(text.replace(b"%s", FORM.to_json().encode()))
    with pytest.raises(LazyTableError, match=f"shards.json: .*{why}") as caught:
        ShardedTable(folders(tmp_path), FORM)
    assert "\n" not in str(caught.value)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.sharded import ShardedTable
form = TableForm(rows=1001, dimension=4, tasks=1, seed=3)
table, rows = ShardedTable([Path(each) for each in sys.argv[1:]], form), np.arange(form.rows)
for number in range(1, 1_000_000):
    table.learn(rows, np.ones((len(rows), 5), np.float32), np.full((len(rows), 2), number, np.float32))
    table.commit()
    sys.stdout.write("x\\n"); sys.stdout.flush()
"""


def test_all_of_it_killed_leaves_one_commit_in_all_parts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, *map(str, folders(tmp_path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    said = 20 + process.communicate()[0].count("\n")
    table = opened(folders(tmp_path))
    assert table.number in (said, said + 1)
    assert set(table.read(EVERY)[1].ravel().tolist()) == {float(table.number)}
    table.close()


def opened(places: list[Path]) -> ShardedTable:
    """The table, once the killed one's parts have noticed."""
    for _ in range(200):
        try:
            return ShardedTable(places, FORM)
        except LazyTableError as error:
            if "another process" not in str(error):
                raise
            time.sleep(0.05)
    raise TimeoutError


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL = """
import json, shutil, sys
from pathlib import Path
import numpy as np
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.sharded import ShardedTable

disk, roomy = Path(sys.argv[1]), Path(sys.argv[2])
form = TableForm(rows=20_000_000, dimension=16, tasks=2)
folders = [roomy / "part", disk / "part"]
table, errors = ShardedTable(folders, form), []
def step(seed, count):
    rows = np.unique(np.random.default_rng(seed).integers(0, form.rows, count))
    table.learn(rows, np.ones((len(rows), 18), np.float32), np.ones((len(rows), 2), np.float32))
    return rows
def attempt(do):
    try:
        do()
    except LazyTableError as error:
        errors.append(str(error))
def content(rows):
    return [each.tobytes() for each in table.read(rows)]
first = step(0, 200)
table.commit(b"first")
every = np.random.default_rng(2).integers(0, form.rows, 2000)
second = step(3, 10)
before = content(np.union1d(first, every))
(disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 200 * 1024)))
attempt(lambda: step(2, 2000))
undone = content(np.union1d(first, every)) == before
with (disk / "most").open("wb", buffering=0) as most:
    try:
        while True:
            most.write(bytes(4096))
    except OSError:
        pass
attempt(lambda: table.commit(b"never"))
whole = content(second)
for name in ("ballast", "most"):
    (disk / name).unlink()
number = table.commit(b"second")
table.close()
table = ShardedTable(folders, form)
print(json.dumps({"errors": errors, "undone": undone, "number": number, "note": table.note.decode(),
                  "second": content(second) == whole, "first": bool((table.read(first)[1] == 1).all())}))
table.close()
"""


def may_mount() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*NAMESPACE, "true"], check=False).returncode


@pytest.mark.skipif(not may_mount(), reason="no mount namespaces here")
def test_one_full_disk_undoes_the_step_in_all_parts(tmp_path: Path) -> None:
    small, roomy = tmp_path / "small", tmp_path / "roomy"
    small.mkdir()
    roomy.mkdir()
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'
    ours = [sys.executable, "-c", FULL, str(small), str(roomy)]
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", mount, "sh", str(small), *ours],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert not done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert "small/part/work.rows: No space left on device; the step was undone" in said["errors"][0]
    assert "No space left on device; nothing was committed" in said["errors"][1]
    assert (said["undone"], said["first"], said["second"]) == (True, True, True)
    assert (said["number"], said["note"]) == (2, "second")
