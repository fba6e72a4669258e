"""`make bench-overload` end to end, small: a real server and Triton, runs and ratio, and the JSON that others read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.overload.__main__ import main

ROOT = Path(__file__).parents[2]
RUN_KEYS = {"multiple", "offered", "late_share", "p99_ms", "tiers", "scored_goodput_rps", "generator_cpu_share"}


def run_bench(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.overload", "--out", str(out), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_runs_and_frontend(triton_environment: object, published_repository: Path, tmp_path: Path) -> None:
    assert triton_environment
    small = ("--capacity", "10", "--candidates", "50", "--seconds", "1", "--calls", "20")
    done = run_bench(tmp_path, "--model-repository", str(published_repository), "--only", "runs", "frontend", *small)
    assert done.returncode == 0, done.stderr
    assert "Capacity 10.0 requests/s of 50 candidates" in done.stdout
    result = json.loads((tmp_path / "overload.json").read_text())
    assert result["capacity_rps"] == 10
    assert result["budget_ms"] == 250
    assert 0 < result["generator_cpu_share"] < 1
    assert result["frontend_ratio"] > 1
    assert [run["multiple"] for run in result["runs"]] == [1, 2, 5, 10]
    for run in result["runs"]:
        assert run.keys() >= RUN_KEYS
        assert set(run["tiers"]) == {"full", "trimmed", "lite", "prior", "shed"}
        assert sum(run["tiers"].values()) + run["unanswered_share"] + run["failed_share"] > 0.999
    assert {"name", "value", "bound", "met"} == result["checks"][0].keys()


def test_a_repository_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out"), "--model-repository", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_a_vertical_that_is_none_is_refused(
    published_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--out", str(tmp_path), "--model-repository", str(published_repository), "--vertical", "elsewhere"]
    assert main(asked) == 2
    told = capsys.readouterr().err
    assert "elsewhere" in told
    assert "feed_click" in told
