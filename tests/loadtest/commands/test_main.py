"""Every command against a scripted server: verdicts, files, exit codes."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.commands import capacity, output, soak
from loadtest.commands.main import COMMANDS, main
from loadtest.driving import search
from loadtest.driving.target import own_cpu_s
from serving.rpc.pb import ranking_pb2 as pb

# The server shares the process, and the machine has much else to do.
LENIENT = ("--max-sent-late", "1", "--max-generator-cpu", "1")
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def objectives(tmp_path: Path) -> Path:
    path = tmp_path / "objectives.toml"
    path.write_text("[objectives]\np99_ms = 2000\nerror_share = 0.0\nlate_share = 0.01\nfull_tier_share = 0.99\n")
    return path


@pytest.fixture
def drawn(capfd: pytest.CaptureFixture[str], tmp_path: Path, objectives: Path) -> Run:
    """Runs a command: its exit code and its JSON."""

    def go(command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        out = ("--out", str(tmp_path), "--json", "--objectives", str(objectives), *LENIENT)
        code = main([command, *out, *arguments])
        return code, json.loads(capfd.readouterr().out)

    return go


@pytest.fixture
def run(drawn: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without drawing the page, which takes longer than many a run."""
    monkeypatch.setattr(output, "page", lambda document: str(document["kind"]))
    return drawn


@pytest.fixture(scope="module")
def sound(scripted: Any) -> Iterator[str]:
    with scripted() as address:
        yield address


def on(address: str, *more: str) -> list[str]:
    return ["--target", address, "--vertical", "selftest", "--candidates", "20", *more]


def test_a_sound_server_passes_and_its_result_and_page_are_written(drawn: Run, sound: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    now = {"unix_s": time.time() + 0.9, "label": "by the time of day"}
    events.write_text(f'{{"at_s": 0.5, "label": "reload <b>"}}\n{json.dumps(now)}\n')
    code, made = drawn("run", *on(sound, "--rate", "60", "--seconds", "1", "--shape", "spike", "--events", str(events)))
    assert (code, made["verdict"], made["kind"]) == (0, "pass", "run")
    figures = made["figures"]
    assert figures["offered"] > 80
    assert sum(figures["tiers"].values()) == pytest.approx(1)
    assert figures["errors"] == {}
    assert sum(each["offered"] for each in made["timeline"]) == figures["offered"]
    assert {"score", "outside"} == made["ledger"].keys()
    at_s = {event["label"]: event["at_s"] for event in made["events"]}
    assert at_s.keys() == {"600/s", "reload <b>", "60/s", "by the time of day"}
    assert at_s["by the time of day"] < 0.9
    assert made["by_tier"]["full"]["p50_ms"] <= made["by_tier"]["full"]["p99_ms"]
    assert made["conditions"]["call"] == "rank"
    assert made["conditions"]["requests_of"] == "schema selftest"
    assert made["conditions"]["versions"]["grpcio"] == grpc.__version__
    assert json.loads((tmp_path / "run.json").read_text()) == made
    assert "reload &lt;b&gt;" in (tmp_path / "run.html").read_text()


def test_a_fast_wrong_answer_fails(run: Run, scripted: Any, reversed_order: Any) -> None:
    with scripted(spoil=reversed_order) as address:
        code, made = run("run", *on(address, "--rate", "60", "--seconds", "0.4"))
    assert (code, made["verdict"]) == (1, "fail")
    assert made["figures"]["tiers"] == {"wrong": 1.0}
    assert made["figures"]["errors"] == {"wrong answer: ads out of order": made["figures"]["offered"]}
    assert made["figures"]["goodput_rps"] == 0


def boast(response: pb.RankResponse) -> None:
    response.ledger.spent_us = response.ledger.stages[0].duration_us = 10_000_000


def other_tier(response: pb.RankResponse) -> None:
    response.tier = pb.TIER_LITE


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(boast, "a ledger of more time than the caller waited"), (other_tier, "tier lite, which the server doesn't")],
)
def test_an_answer_that_contradicts_clock_or_description_is_wrong(
    run: Run, scripted: Any, spoil: Callable[[pb.RankResponse], None], said: str
) -> None:
    with scripted(spoil=spoil) as address:
        code, made = run("run", *on(address, "--rate", "60", "--seconds", "0.3"))
    assert (code, made["figures"]["tiers"]) == (1, {"wrong": 1.0})
    assert all(said in text for text in made["figures"]["errors"])


def test_a_server_is_asked_over_streams(run: Run, scripted: Any, objectives: Path, tmp_path: Path) -> None:
    objectives.write_text("[objectives]\nerror_share = 0\n")
    load, sent = ("--rate", "60", "--call", "stream"), str(tmp_path / "sent.jsonl")
    with scripted(only_streams=True) as address:
        made = [
            run("run", *on(address, *load, "--seconds", "0.4", "--record", sent)),
            run("replay", sent, "--target", address, "--call", "stream"),
            run("soak", *on(address, *load, "--seconds", "0.4", "--window-s", "0.2")),
        ]
    assert [(code, each["conditions"]["call"]) for code, each in made] == [(0, "stream")] * 3
    assert all(each["figures"]["tiers"] == {"full": 1.0} for _, each in made)


def test_an_impossible_objective_fails(run: Run, sound: str, objectives: Path) -> None:
    objectives.write_text("[objectives]\np99_ms = 0.001\n")
    code, made = run("run", *on(sound, "--rate", "60", "--seconds", "0.4"))
    assert (code, made["checks"][0]["met"]) == (1, False)


def test_refusals_count_as_shed_and_other_ends_as_failed(run: Run, scripted: Any) -> None:
    for status, tier in ((grpc.StatusCode.RESOURCE_EXHAUSTED, "shed"), (grpc.StatusCode.INTERNAL, "failed")):
        with scripted(refuse=status) as address:
            code, made = run("run", *on(address, "--rate", "60", "--seconds", "0.3"))
        assert (code, made["figures"]["tiers"]) == (1, {tier: 1.0})
        assert made["figures"]["late"] == (0 if tier == "shed" else made["figures"]["offered"])


def test_a_generator_that_is_the_bottleneck_makes_the_run_invalid(run: Run, sound: str) -> None:
    code, made = run("run", *on(sound, "--rate", "100", "--seconds", "0.5", "--max-generator-cpu", "0.0001"))
    assert (code, made["verdict"]) == (3, "invalid")
    assert "of its core" in made["invalid"][0]


def test_what_was_recorded_is_replayed_and_compared(
    run: Run, sound: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = tmp_path / "sent.jsonl"
    _, first = run("run", *on(sound, "--rate", "120", "--seconds", "0.6", "--record", str(sent)))
    code, again = run("replay", str(sent), "--target", sound)
    assert code == 0
    assert again["figures"]["offered"] == first["figures"]["offered"]
    faster, _ = run("replay", str(sent), "--target", sound, "--speed", "2")
    assert faster == 0
    one, two = str(tmp_path / "run.json"), str(tmp_path / "replay.json")
    assert main(["compare", one, two, "--json"]) == 3
    assert any(text.startswith("kind") for text in json.loads(capfd.readouterr().out)["differences"])
    assert main(["compare", one, one, "--json", "--rounds", "50"]) == 0
    same = json.loads(capfd.readouterr().out)["ratios"]
    assert {each["value"] for each in same.values()} == {1.0}
    assert all(each["low"] <= 1 <= each["high"] for each in same.values())


def test_a_worse_run_is_called_worse(run: Run, sound: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run("run", *on(sound, "--rate", "150", "--seconds", "0.7"))
    good = tmp_path / "run.json"
    made = json.loads(good.read_text())
    made["tally"]["in_time"] //= 2
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(made))
    assert main(["compare", str(good), str(bad), "--json", "--rounds", "50"]) == 1
    assert json.loads(capfd.readouterr().out)["worse"] == ["goodput_share"]
    assert main(["compare", str(bad), str(good), "--json", "--rounds", "50"]) == 0


def test_capacity_is_found_between_a_rate_that_held_and_one_that_did_not(
    run: Run, scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"at_s": 0.1, "label": "in the first probe"}\n')
    # Four threads that take 20 ms each answer 200 requests per second.
    monkeypatch.setattr(capacity, "PARTS", 2)
    monkeypatch.setattr(search, "RAISE", 4.0)  # one short try above it
    with scripted(spoil=lambda _: time.sleep(0.02), budget_ms=150.0) as address:
        asked = ("--first", "100", "--probe-s", "0.25", "--confirm-s", "0.4", "--precision", "1.1")
        code, made = run("capacity", *on(address, *asked, "--events", str(events)))
    assert code in (0, 1)  # the objectives at the edge are another matter
    assert 40 <= made["capacity_rps"] <= 320
    least, most = made["capacity_interval_rps"]
    assert (least or 0) <= made["capacity_rps"] < (most or float("inf"))
    low, high = made["bracket_rps"]
    assert low == made["capacity_rps"]
    assert high is None or high > low
    assert len(made["sweep"]) == len(made["probes"]) >= 3
    assert made["figures"]["offered"] >= low * 0.4 * 0.7  # of the confirming run, at least
    assert [(event["label"], event["at_s"] < 0) for event in made["events"]] == [("in the first probe", True)]


def test_overload_tells_what_is_left_of_the_goodput(run: Run, sound: str, objectives: Path) -> None:
    objectives.write_text("[objectives]\ngoodput_kept = 0.9\nerror_share = 0\n")
    events = objectives.with_name("events.jsonl")
    events.write_text('{"at_s": 0.3, "label": "in the first run"}\n')
    load = ("--capacity", "20", "--multiples", "1", "3", "--seconds", "0.7", "--events", str(events))
    code, made = run("overload", *on(sound, *load))
    assert code == 0
    assert [each["multiple"] for each in made["sweep"]] == [1.0, 3.0]
    assert {check["name"] for check in made["checks"]} == {"goodput_kept", "error_share"}
    assert made["knee_rps"] is None  # it held all that was tried
    (event,) = made["events"]
    assert event["label"] == "in the first run"
    assert event["at_s"] < -0.4  # of the second one's seconds


def test_a_run_from_load_to_load_tells_goodput_against_offered_load(drawn: Run, sound: str, tmp_path: Path) -> None:
    code, made = drawn("run", *on(sound, "--rate", "30", "--seconds", "1.5", "--shape", "overload"))
    assert code == 0
    assert len(made["sweep"]) == 5
    offered = sum(each["offered_rps"] * 0.3 for each in made["sweep"])
    assert offered == pytest.approx(made["figures"]["offered"])
    text = (tmp_path / "run.html").read_text()
    assert "Goodput against offered load" in text
    assert "overload 30/s x 1.5 s, 20 candidates: p50" in text


def test_soak_counts_windows_and_watches_memory(
    run: Run, sound: str, objectives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "machine_cpu_s", own_cpu_s)  # nothing else runs
    objectives.write_text("[objectives]\nerror_share = 0\nrss_mb_per_h = 1e9\np99_drift = 1000\n")
    load = ("--rate", "80", "--seconds", "1.2", "--window-s", "0.4", "--pid", str(os.getpid()))
    code, made = run("soak", *on(sound, *load))
    assert code == 0
    assert len(made["timeline"]) == len(made["rss_mb"]) == 3
    assert made["generator"]["others_cpu_s"] < 0.01
    assert {check["name"] for check in made["checks"]} == {"error_share", "rss_mb_per_h", "p99_drift"}
    assert made["figures"]["offered"] == sum(each["offered"] for each in made["timeline"])


def interrupting(after: int) -> Callable[[object], None]:
    """Called per answer: one interrupt of this process, as Ctrl-C makes it, at that answer."""
    left = iter(range(after, -1, -1))

    def count(_: object) -> None:
        if next(left, -1) == 0:
            os.kill(os.getpid(), signal.SIGINT)

    return count


def test_an_interrupted_soak_judges_the_windows_that_are_over(run: Run, scripted: Any, objectives: Path) -> None:
    objectives.write_text("[objectives]\nerror_share = 0\n")
    with scripted(spoil=interrupting(after=70)) as address:
        code, made = run("soak", *on(address, "--rate", "100", "--seconds", "3600", "--window-s", "0.2"))
    assert code == 0
    assert 1 <= len(made["timeline"]) <= 6
    assert made["figures"]["offered"] == sum(each["offered"] for each in made["timeline"])


def test_an_interrupted_run_is_not_judged(scripted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(spoil=interrupting(after=5)) as address:
        code = main(["run", "--out", str(tmp_path), *on(address, "--rate", "50", "--seconds", "60")])
    assert (code, list(tmp_path.iterdir())) == (130, [])
    assert capsys.readouterr().err.endswith("interrupted, nothing is judged\n")


def test_a_soak_of_no_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", *on("127.0.0.1:1", "--rate", "10", "--pid", str(2**22 + 1))]) == 2
    assert "no such process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vertical", "nope"], "NOT_FOUND"),
        (["--candidates", "dlrm-v3"], "2048 in one request, but selftest takes 1000"),
        (["--candidates", "some"], "expected a number"),
        (["--objectives", "absent.toml"], "absent.toml"),
        (["--events", "absent.jsonl"], "absent.jsonl"),
        (["--data", "absent"], "absent"),
        (["--schema", "absent.toml"], "absent.toml"),
        (["--rate", "0.001"], "no request is due"),
    ],
)
def test_bad_input_is_one_line_and_2(
    sound: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["run", "--out", str(tmp_path), *on(sound, "--rate", "10", *arguments)]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"), [("x", "not JSON"), ("[]", "not a result"), ('{"kind": "run"}', "not a result")]
)
def test_what_is_no_result_is_not_compared(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    assert main(["compare", str(path), str(path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "exit codes: 0" in told


def test_the_module_runs_as_a_command() -> None:
    import subprocess

    told = subprocess.run([sys.executable, "-m", "loadtest.commands.main"], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "usage: exfm-loadtest" in told.stderr
