"""A table whose files are damaged or foreign: told in one line, with nothing held open."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.table import LazyTable

SMALL = TableForm(rows=1000, dimension=4, tasks=1)


def held(folder: Path) -> int:
    """File descriptors and mappings of this process in a folder."""
    mapped = Path("/proc/self/maps").read_text().count(str(folder))
    return mapped + sum(
        os.path.realpath(f"/proc/self/fd/{each}").startswith(str(folder)) for each in os.listdir("/proc/self/fd")
    )


@pytest.mark.parametrize("clean", [True, False])
def test_a_table_that_does_not_open_is_let_go_of(tmp_path: Path, *, clean: bool) -> None:
    table = LazyTable(tmp_path, SMALL)
    table.learn(np.arange(3), np.ones((3, SMALL.width), np.float32), np.ones((3, 2), np.float32))
    table.commit()
    assert held(tmp_path) >= 3
    table.close()
    if not clean:
        (tmp_path / "clean").unlink()
    path = next(tmp_path.glob("commit-*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LazyTableError, match="damaged"):
        LazyTable(tmp_path, SMALL)
    assert held(tmp_path) == 0


HEADER = {"number": 1, "rows": 3, "size": 28, "base": False, "checksum": 1}


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("table.json", "", "Expecting value"),
        ("table.json", "[" * 100_000, "recursion"),
        ("table.json", "7", "there is 7, not an object"),
        ("table.json", '{"rows": "many"}', "field 'rows' is 'many'; it must be a whole number from 1 on"),
        ("table.json", '{"rows": 1, "dimension": 4}', "field 'tasks' is missing"),
        ("table.json", SMALL.to_json().replace("}", ', "colour": 1}'), "field 'colour' is not known"),
        ("commit-0000000001.rows", "{'rows': 3}", "Expecting property name"),
        ("commit-0000000001.rows", "7", "there is 7, not an object"),
        ("commit-0000000001.rows", json.dumps({**HEADER, "rows": 0.5}), "field 'rows' is 0.5"),
        ("commit-0000000001.rows", json.dumps({**HEADER, "checksum": None}), "field 'checksum' is None"),
    ],
)
def test_a_foreign_file_is_told_by_name_and_field(tmp_path: Path, file: str, text: str, why: str) -> None:
    head = "EXLT1\n" if file.startswith("commit") else ""
    (tmp_path / file).write_text(f"{head}{text}\n")
    with pytest.raises(LazyTableError, match=f"{file}: .*{why}") as caught:
        LazyTable(tmp_path, SMALL)
    assert "\n" not in str(caught.value)
    assert held(tmp_path) == 0


def test_a_file_that_is_no_commit_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "commit-0000000001.rows").write_bytes(b"EXLT9\n{}\n")
    with pytest.raises(LazyTableError, match=r"commit-0000000001\.rows: this is no commit of a lazy table$"):
        LazyTable(tmp_path, SMALL)
    assert held(tmp_path) == 0
