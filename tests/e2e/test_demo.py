"""The demo end to end, small: training, export, real Triton, replay, and the summary that others read."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)
"""The whole demo runs before the first test: a minute on a quiet machine, and more than two on a slow one."""
ROOT = Path(__file__).parents[2]
LEARNED = {"auc", "ne", "calibration", "auc_no_distill", "ne_no_distill", "teacher_auc"}


def run_demo(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", "--out", str(out), "--requests", "60", "--rate", "40", *more]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as demo:
        try:
            said = demo.communicate()
        finally:  # where a test's time ran out, its server with it
            with suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, demo.returncode, *said)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(kuairand_parquet: Path, triton_environment: object, out: Path) -> dict[str, Any]:
    assert triton_environment
    done = run_demo(out, "--data", str(kuairand_parquet))
    assert done.returncode == 0, done.stderr
    assert "Learning, last day" in done.stdout
    assert "really shown" in done.stdout
    assert "within 25 ms" in done.stdout
    assert "The loop, closed once" in done.stdout
    loaded: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return loaded


def test_the_summary_says_what_was_learned(summary: dict[str, Any]) -> None:
    assert summary["data"] == "kuairand_pure"
    assert summary["triton"]["version"].startswith("2.")
    assert set(summary["verticals"]) == {"feed_click", "feed_long_view"}
    for figures in summary["verticals"].values():
        assert figures.keys() >= LEARNED
        assert 0 < figures["auc"] < 1
        assert figures["ne"] > 0


def test_the_summary_says_how_it_was_served(summary: dict[str, Any]) -> None:
    serving = summary["serving"]
    assert serving["requests"] == 60
    assert serving["rate"] == 40
    assert serving["budget_ms"] == 25
    assert serving["candidates"] == 30  # asked for 200, but there are no more ads
    assert 0 < serving["p50_ms"] <= serving["p99_ms"]
    assert 0 <= serving["within_budget"] <= 1
    assert sum(serving["by_tier"].values()) == pytest.approx(1)


def test_the_published_students_have_learned_up_to_the_hold_out(summary: dict[str, Any], out: Path) -> None:
    for name in summary["verticals"]:
        lineage = json.loads((out / "model_repository" / name / "1" / "manifest.json").read_text())["lineage"]
        assert lineage["first_ms"] < lineage["learned_until_ms"] < lineage["last_ms"] - 6 * 3_600_000


def test_what_was_served_becomes_examples_histories_and_a_refreshed_student(summary: dict[str, Any], out: Path) -> None:
    loop = summary["loop"]
    assert 0 < loop["joined"] == loop["outcomes_told"] < loop["impressions"] == loop["examples"]
    assert 0 < loop["users"] <= loop["examples"]
    # How many depends on the machine: where it stands still, the prior answers, and look-ups are given up.
    assert 0 < loop["share_with_history"] <= 1
    for name in summary["verticals"]:
        manifest = json.loads((out / "model_repository" / name / "2" / "manifest.json").read_text())
        assert "request_history" in [tensor["name"] for tensor in manifest["tensors"]]
        assert loop["versions"][name] == 2


def test_an_impossible_load_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from demo.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "out"), "--requests", "0"])
    assert ended.value.code == 2
    assert "argument --requests: must be >= 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_data_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from demo.__main__ import main

    assert main(["--out", str(tmp_path / "out"), "--data", str(tmp_path / "nowhere")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("demo: ")
    assert "nowhere" in told
    assert told.count("\n") == 1
