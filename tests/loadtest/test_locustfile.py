"""locust itself, as a user runs it, against the real server and its Triton; and runs that must fail, and do."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loadtest.commands.main import main

ROOT = Path(__file__).parents[2]
LOCUST = Path(sys.executable).with_name("locust")
# Wide enough for machines that have much else to do; the budget itself is 250 ms.
OBJECTIVES = "[objectives]\nlate_share = 0.3\np99_ms = 2000\nfull_tier_share = 0.5\nerror_share = 0.1\n"
IMPOSSIBLE = "[objectives]\np99_ms = 0.01\n"


Ended = tuple[subprocess.CompletedProcess[str], dict[str, Any]]


def locust(folder: Path, address: str, vertical: str, *more: str) -> Ended:
    verdict = folder / "verdict.json"
    command = [str(LOCUST), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--host", address]
    command += [
        *(["--vertical", vertical] if vertical else []),
        "--verdict-file",
        str(verdict),
        "--max-sent-late",
        "1",
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=60)
    if not verdict.exists():
        return done, {}
    return done, {**json.loads(verdict.read_text()), "page": verdict.with_suffix(".html").read_text()}


@pytest.fixture(scope="module")
def runs(
    real: str, scripted: Any, reversed_order: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ended]]]:
    """Five runs by name, two at a time: most of a run is locust's own start and end."""

    def run(name: str, address: str, vertical: str, load: str) -> Ended:
        folder = tmp_path_factory.mktemp(name)
        (folder / "objectives.toml").write_text(IMPOSSIBLE if name == "impossible" else OBJECTIVES)
        return locust(folder, address, vertical, *load.split(), "--objectives", str(folder / "objectives.toml"))

    with scripted(spoil=reversed_order) as wrong, ThreadPoolExecutor(2) as pool:
        feed = "--candidates 50"
        yield {
            "sound": pool.submit(run, "sound", real, "feed_click", f"--rate 30 --seconds 2 --shape bursty {feed}"),
            "wrong": pool.submit(run, "wrong", wrong, "selftest", "--rate 30 --seconds 1 --candidates 20"),
            "impossible": pool.submit(run, "impossible", real, "feed_click", f"--rate 20 --seconds 1 {feed}"),
            "nobody": pool.submit(run, "nobody", wrong, "nope", ""),
            "several": pool.submit(run, "several", real, "", f"--rate 40 --seconds 1 --processes 2 {feed}"),
        }


# First what can go on while those runs do.
@pytest.mark.usefixtures("runs")
def test_the_web_page_starts_a_run_with_its_own_options(scripted: Any, tmp_path: Path, free_port: int) -> None:
    verdict, page = tmp_path / "verdict.json", f"http://127.0.0.1:{free_port}"
    command = [str(LOCUST), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--web-host", "127.0.0.1"]
    command += ["--web-port", str(free_port), "--verdict-file", str(verdict), "--max-sent-late", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        scripted() as address,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            poll(lambda: ask(f"{page}/stats/requests")["state"] == "ready")
            wrong = {"host": address, "vertical": "nope", "rate": 30, "seconds": 1, "candidates": 20}
            ask(f"{page}/swarm", wrong)
            poll(lambda: ask(f"{page}/stats/requests")["state"] == "stopped")
            ask(f"{page}/swarm", {**wrong, "vertical": "selftest", "shape": "ramp"})
            poll(lambda: ask(f"{page}/stats/requests")["stats"][-1]["num_requests"] > 0)
            poll(lambda: ask(f"{page}/stats/requests")["state"] == "stopped")
            poll(verdict.with_suffix(".html").exists)  # while the page is still there
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
    made = json.loads(verdict.read_text())
    assert made["verdict"] == "pass"
    assert made["tally"]["tiers"].keys() == {"full"}


def test_bad_input_ends_with_2(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["nobody"].result()
    assert done.returncode == 2
    assert "NOT_FOUND" in done.stderr
    assert made == {}


def test_a_short_run_against_the_real_server_passes(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["sound"].result()
    assert done.returncode == 0, done.stderr
    assert made["verdict"] == "pass"
    assert made["tally"]["offered"] == pytest.approx(60, abs=45)
    assert made["tally"]["tiers"].get("wrong", 0) == 0
    assert sum(made["tally"]["tiers"].values()) == made["tally"]["offered"]
    assert {check["name"] for check in made["checks"]} == {"late_share", "p99_ms", "full_tier_share", "error_share"}


def test_several_processes_share_the_rate(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["several"].result()
    assert done.returncode == 0, done.stderr
    assert made["tally"]["offered"] == pytest.approx(40, abs=30)
    assert made["conditions"]["vertical"] == "feed_click"  # nobody said which: the server's first


def test_a_result_has_a_page_and_compares(
    runs: dict[str, Future[Ended]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, made = runs["sound"].result()
    assert made["kind"] == "locust"
    assert made["conditions"]["vertical"] == "feed_click"
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(made))
    assert main(["compare", str(path), str(path), "--rounds", "20"]) == 0
    assert capfd.readouterr().out.endswith("verdict: pass\n")
    assert made["page"].count("<svg") == 1
    assert "A locust run" in made["page"]


def test_an_objective_that_no_server_can_meet_fails_the_run(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["impossible"].result()
    assert done.returncode == 1
    assert made["verdict"] == "fail"
    assert made["tally"]["tiers"].get("wrong", 0) == 0


def test_fast_wrong_answers_fail_the_run(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["wrong"].result()
    assert done.returncode == 1
    assert made["tally"]["errors"] == {"wrong answer: ads out of order": made["tally"]["offered"]}
    assert "ads out of order" in done.stdout + done.stderr


def test_our_own_generator_says_the_same_of_the_real_server(
    real: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    objectives = tmp_path / "objectives.toml"
    objectives.write_text(OBJECTIVES)
    common = ["run", "--target", real, "--vertical", "feed_click", "--candidates", "50", "--rate", "40"]
    common += ["--seconds", "1", "--out", str(tmp_path), "--json", "--max-sent-late", "1", "--max-generator-cpu", "1"]
    assert main([*common, "--objectives", str(objectives)]) == 0
    made = json.loads(capfd.readouterr().out)
    assert "full" in made["figures"]["tiers"]
    assert sum(stage["mean_ms"] for name, stage in made["ledger"].items() if name != "outside") > 0
    objectives.write_text(IMPOSSIBLE)
    assert main([*common, "--objectives", str(objectives)]) == 1


def ask(address: str, form: dict[str, Any] | None = None) -> dict[str, Any]:
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(address, data, timeout=10) as response:
        return dict(json.load(response))


def poll(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(f"not so within {within_s:g} s")
