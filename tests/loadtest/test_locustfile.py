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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.arrivals.schedule import arrivals
from loadtest.arrivals.shapes import SHAPES
from loadtest.commands.main import main

ROOT = Path(__file__).parents[2]
LOCUST = Path(sys.executable).with_name("locust")
# The budget is 250 ms, calls get 1,000: each of these can be missed, and none is by a machine that has much else to do.
OBJECTIVES = "[objectives]\nlate_share = 0.1\np99_ms = 500\nfull_tier_share = 0.8\nerror_share = 0.02\n"
IMPOSSIBLE = "[objectives]\np99_ms = 0.01\n"
LENIENT = ["--max-sent-late", "1", "--max-generator-cpu", "1"]


Ended = tuple[subprocess.CompletedProcess[str], dict[str, Any]]


def locust(folder: Path, address: str, vertical: str, *more: str) -> Ended:
    verdict = folder / "verdict.json"
    command = [str(LOCUST), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--host", address]
    command += [*(["--vertical", vertical] if vertical else []), "--verdict-file", str(verdict), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=60)
    if not verdict.exists():
        return done, {}
    return done, {**json.loads(verdict.read_text()), "page": verdict.with_suffix(".html").read_text()}


@pytest.fixture(scope="module")
def runs(
    real: str, scripted: Any, reversed_order: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ended]]]:
    """Six runs by name, two at a time: most of a run is locust's own start and end."""

    def run(name: str, address: str, vertical: str, load: str, *more: str) -> Ended:
        folder = tmp_path_factory.mktemp(name)
        (folder / "objectives.toml").write_text(IMPOSSIBLE if name == "impossible" else OBJECTIVES)
        (folder / "events.jsonl").write_text('{"at_s": 0.5, "label": "reload"}\n')
        held = [*more, "--objectives", str(folder / "objectives.toml"), "--events", str(folder / "events.jsonl")]
        return locust(folder, address, vertical, *load.split(), *held)

    with scripted(spoil=reversed_order) as wrong, scripted(budget_ms=50.0) as tight, ThreadPoolExecutor(2) as pool:
        feed = "--candidates 50 --timeout-ms 1000"
        bursty = f"--rate 30 --seconds 2 --shape bursty {feed}"
        yield {
            "sound": pool.submit(run, "sound", real, "feed_click", bursty, *LENIENT),
            "wrong": pool.submit(run, "wrong", wrong, "selftest", "--rate 30 --seconds 1 --candidates 20", *LENIENT),
            "impossible": pool.submit(run, "impossible", real, "feed_click", f"--rate 20 --seconds 1 {feed}", *LENIENT),
            "nobody": pool.submit(run, "nobody", wrong, "nope", ""),
            "several": pool.submit(run, "several", real, "", f"--rate 40 --seconds 1 --processes 2 {feed}", *LENIENT),
            "late": pool.submit(run, "late", tight, "selftest", "--rate 4000 --seconds 1 --candidates 20"),
        }


# First what can go on while those runs do.
@pytest.mark.usefixtures("runs")
def test_the_web_page_starts_a_run_with_its_own_options(scripted: Any, tmp_path: Path, free_port: int) -> None:
    verdict, page = tmp_path / "verdict.json", f"http://127.0.0.1:{free_port}"
    command = [str(LOCUST), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--web-host", "127.0.0.1"]
    command += ["--web-port", str(free_port), "--verdict-file", str(verdict), *LENIENT]
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
    assert made["tally"]["offered"] == owed("bursty", 30.0, 2.0, processes=1)
    assert made["tally"]["tiers"].get("wrong", 0) == 0
    assert sum(made["tally"]["tiers"].values()) == made["tally"]["offered"]
    assert {check["name"] for check in made["checks"]} == {"late_share", "p99_ms", "full_tier_share", "error_share"}


def test_several_processes_share_the_rate(runs: dict[str, Future[Ended]]) -> None:
    done, made = runs["several"].result()
    assert done.returncode == 0, done.stderr
    assert made["tally"]["offered"] == owed("steady", 40.0, 1.0, processes=2)
    assert made["conditions"]["vertical"] == "feed_click"  # nobody said which: the server's first


def test_a_generator_that_is_asked_for_more_than_it_can_send_makes_the_run_invalid(
    runs: dict[str, Future[Ended]],
) -> None:
    done, made = runs["late"].result()
    assert done.returncode == 3, done.stderr
    assert made["verdict"] == "invalid"
    assert any(why.startswith("the generator sent") for why in made["invalid"])


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
    assert "A locust run" in made["page"]


def test_the_page_has_every_plot(runs: dict[str, Future[Ended]]) -> None:
    _, made = runs["sound"].result()
    page = made["page"]
    assert page.count("<svg") == 5
    for caption in ("Goodput against", "Latency of all", "Who answered, over time", "Latency over time", "ledger"):
        assert caption in page
    assert page.count("reload") >= 3  # over both plots over time, and in the table
    assert len(made["sweep"]) == 2  # bursts and lulls
    assert sum(each["offered"] for each in made["timeline"]) == made["tally"]["offered"]
    assert sum(stage["mean_ms"] for name, stage in made["ledger"].items() if name != "outside") > 0


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


def owed(shape: str, rate_rps: float, seconds: float, processes: int) -> int:
    """How many requests the schedules of so many processes hold, of four streams each."""
    streams = [(process, number) for process in range(processes) for number in range(4)]
    share = SHAPES[shape](rate_rps, seconds, 0)
    share = replace(share, rate_rps=share.rate_rps / len(streams))
    return sum(len(arrivals(share, (0, *stream))) for stream in streams)


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
