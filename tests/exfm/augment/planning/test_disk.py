"""A table on disk in a plan: what its reads cost, by hand and measured, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.asynchrony.teacher import publish
from exfm.augment.planning.disk import DiskReads, measured_reads
from exfm.augment.planning.plan import Cluster, TeacherSize, Traffic, plan
from exfm.augment.planning.steps import Step
from exfm.commands.annotate import main
from exfm.features.schema import Schema
from exfm.models.checkpoint import load_checkpoint
from exfm.models.lazy.form import TableForm
from exfm.models.lazy.frozen import FrozenTable, freeze, frozen_at
from exfm.models.lazy.table import LazyTable

SIZE = TeacherSize(rows=10**9, columns=10, features=5, dense_parameters=100, dense_flops=1e6, disk_bytes=1000)


def table_of(folder: Path, form: TableForm, commits: int = 2, rows: int = 3000) -> bytes:
    """Digest of a table that has learned some rows, kept in its folder."""
    table, draw = LazyTable(folder, form), np.random.default_rng(0)
    for _ in range(commits):
        some = np.unique(draw.integers(0, form.rows, rows))
        table.learn(some, np.ones((len(some), form.width), np.float32), np.ones((len(some), 2), np.float32))
        table.commit()
    digest = freeze(table, folder)
    table.close()
    return digest


def test_its_lookups_by_hand() -> None:
    steps: list[Step] = []
    reads = DiskReads(warm_rows_per_s=1e4, cold_rows_per_s=100.0, pages_per_row=1.5)
    assert reads.lookup_s(20, 0.75, steps) == pytest.approx(15 / 1e4 + 5 / 100)
    assert [step.value for step in steps] == pytest.approx([5, 7.5, 51_500])
    assert reads.lookup_s(20, 1.0, []) == pytest.approx(20 / 1e4)


def test_memory_is_needed_for_the_rest_alone() -> None:
    traffic = Traffic(1.0)
    made = plan(SIZE, Cluster(1, 1000.0, examples_per_s=2.0), traffic)  # 850 B less 400 for 1000 on the disk
    assert (made.fits, made.spread, made.bytes_per_device, made.good) == (True, False, 400, True)
    assert next(step.value for step in made.steps if step.name == "of which in memory") == pytest.approx(0.45)
    assert not plan(SIZE, Cluster(1, 400.0, examples_per_s=2.0), traffic).fits
    assert SIZE.kept(1e9, 8192) == 1.0


def test_reads_are_measured_on_the_tables_own_files(tmp_path: Path) -> None:
    form = TableForm(10**9, 4, 1)
    reads = measured_reads(FrozenTable(frozen_at(tmp_path, table_of(tmp_path, form))), 0.01)
    assert 0 < reads.cold_rows_per_s <= reads.warm_rows_per_s
    assert reads.pages_per_row == pytest.approx(1 + 27 / 4096 + 1.5)  # two commits
    empty = measured_reads(FrozenTable(frozen_at(tmp_path / "e", table_of(tmp_path / "e", form, commits=0))), 0.01)
    assert empty.warm_rows_per_s > 0


def test_a_teacher_with_one_is_planned(schema: Schema, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = publish(schema, tmp_path, "first", dimension=4).path("first")
    made = load_checkpoint(path)
    digest = table_of(tmp_path / "disk", TableForm(schema.rows, 4, len(made.tasks)), rows=schema.rows)
    state = {name: value for name, value in made.state.items() if not name.startswith("table.")}
    state["table.digest"] = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
    replace(made, state=state, options={**made.options, "table": {"buckets": 0}}).save(tmp_path / "disk" / "teacher.pt")
    teacher = str(tmp_path / "disk" / "teacher.pt")
    asked = ["plan", "--memory-gb", "1", "--traffic"]
    assert main([*asked, "1", "--teacher", teacher, "--speed", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["teacher"]["disk_bytes"] > schema.rows * (8 + 4 * 8)
    assert main([*asked, "1e9", "--measure", teacher]) == 1
    out = capsys.readouterr().out
    for said in ("its disk", "of which in memory", "cold rows", "page faults", "lookup", "speed of a device"):
        assert f"\n{said} " in out
    assert "IT CAN NOT KEEP UP" in out
    assert "each device has all rows on its disk" in out
    assert "not asked: the table lies on disk" in out
    rates = ["--flops-per-s", "1e9", "--gather-gb-per-s", "1", "--link-gb-per-s", "1"]
    assert main([*asked, "1", "--teacher", teacher, *rates]) == 2
    assert "has its table on disk; how fast is that? --measure, or --speed" in capsys.readouterr().err
