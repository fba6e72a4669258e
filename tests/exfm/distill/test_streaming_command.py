"""`exfm-train --stream` with a teacher's table on disk: killed at any step that it takes on the disk, and following."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from exfm.augment.annotate.snapshots import snapshot_of
from exfm.commands import train
from exfm.data.cursor import Cursor
from exfm.data.source import Source
from exfm.distill import report, streaming
from exfm.models.checkpoint import load_checkpoint

ROWS, SEED, POINTS = 160, 7, 2
WRITES = ("os.rename", "os.link", "os.remove", "os.truncate", "os.mkdir", "os.rmdir")
SETTINGS = """
stream = {{chunk = 100, batch = 50}}
counters = {{keys = ["user", "ad"]}}
lite = {{dimension = 4, model = {{user_hidden = 8, product = 4, width = 4}}}}
[teacher]
table = "lazy:{table}"
model = {{layers = 1, hidden = 16, fmb = 2, lcb = 2, rank = 3, counter_hidden = 8}}
[student]
dimension = 8
model = {{compressed = 2, user_hidden = 8, hidden = 16, width = 8}}
"""


def arguments(home: Path, stream: Path, name: str) -> list[str]:
    """Of a run that saves after every window."""
    (settings := home / f"{name}.toml").write_text(SETTINGS.format(table=home / f"{name}.table"), encoding="utf-8")
    told = {"--stream": stream, "--out": home / name, "--config": settings, "--window-rows": 80, "--consumer": name}
    return ["--resume", "--checkpoint-s", "0", "--json", *(str(each) for pair in told.items() for each in pair)]


def _run(asked: list[str], home: Path, name: str, at: int, told: Path) -> None:
    """In a process of its own: the command, ended by kill -9 before the step `at` on the disk; the steps are noted."""
    steps: list[str] = []

    def watch(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in WRITES) and str(home / name) in str(given):
            steps.append(f"{event} {given}")
            if len(steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)

    report.draw = lambda *_: None
    sys.addaudithook(watch)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    assert train.main(asked) == 0
    told.write_text(json.dumps(steps))


def weights(out: Path, schema_rows: int) -> list[bytes]:
    model = snapshot_of("made", load_checkpoint(out / "teacher.pt")).model
    students = [load_checkpoint(path).state for path in sorted((out / "students").glob("*.pt"))]
    values = [model.table(torch.arange(schema_rows)), *model.parameters()]
    return [each.detach().numpy().tobytes() for each in [*values, *(v for state in students for v in state.values())]]


def test_wherever_it_is_killed_each_row_is_learned_once(
    *,
    tiny: Callable[..., Source],
    write_stream: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    apart: Any,
) -> None:
    def run(*given: Any) -> int | None:
        child = apart(_run, *given)
        child.start()
        child.join(60)
        code: int | None = child.exitcode
        return code

    monkeypatch.setattr(report, "draw", lambda *_: None)
    source, told = tiny(ROWS), tmp_path / "steps.json"
    stream, rows = write_stream(source, 40), source.schema.rows
    assert run(arguments(tmp_path, stream, "whole"), tmp_path, "whole", 0, told) == 0
    steps, wanted = json.loads(told.read_text()), weights(tmp_path / "whole", rows)
    (first, *_) = (number for number, step in enumerate(steps, 1) if "training.pt" in step and "rename" in step)
    points = [first, *random.Random(SEED).sample(range(first + 1, len(steps) + 1), POINTS)]
    for point in points:
        name = f"killed-{point}"
        asked = arguments(tmp_path, stream, name)
        assert run(asked, tmp_path, name, point, told) == -signal.SIGKILL
        assert train.main(asked) == 0, steps[point - 1]
        made = json.loads(capsys.readouterr().out)
        assert made["place"]["learned"] == ROWS
        assert weights(tmp_path / name, rows) == wanted, steps[point - 1]
        assert Cursor(stream, name).row == ROWS
        assert len(list((tmp_path / f"{name}.table" / "tables").iterdir())) <= 2  # nothing that nobody needs


def _follow(asked: list[str]) -> None:
    report.draw, streaming.POLL_S = lambda *_: None, 0.02
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.exit(train.main([*asked, "--follow"]))


def test_it_follows_the_stream_until_it_is_told_to_end(
    tiny: Callable[..., Source],
    write_stream: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    apart: Any,
) -> None:
    monkeypatch.setattr(report, "draw", lambda *_: None)
    source = tiny(ROWS)
    stream = write_stream(source, 80, 0, 80)
    followed, again = (arguments(tmp_path, stream, name) for name in ("followed", "again"))
    child = apart(_follow, followed)
    child.start()
    assert train.main(again) == 0
    for rows in (80, ROWS):
        until_s = time.monotonic() + 60
        while Cursor(stream, "followed").row < rows:
            assert child.is_alive()
            assert time.monotonic() < until_s
            time.sleep(0.02)
        if rows < ROWS:
            write_stream(source, 80, 80)
    child.terminate()
    child.join(60)
    assert child.exitcode == 0
    assert train.main(again) == 0
    assert weights(tmp_path / "followed", source.schema.rows) == weights(tmp_path / "again", source.schema.rows)
    assert json.loads((tmp_path / "followed" / "metrics.json").read_text())["place"]["learned"] == ROWS
