"""The bench's own parts: what it writes, and how it ends when it can't begin."""

import copy
import json
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.peers import __main__ as bench
from bench.peers.__main__ import main, medians
from bench.peers.lacks import lacks
from bench.peers.page import page
from loadtest.commands import peers as command
from loadtest.peers.compare import Comparison, Plan

RESULT: dict[str, Any] = {
    "machine": {
        "started": "2026-01-02",
        "processor": "CPU <one>",
        "cores": 2,
        "kernel": "Linux 6",
        "memory_gib": 23.5,
        "versions": {"grpcio": "1.8"},
    },
    "about": {"exfm": "ours & <its> Triton", "mosec": "its own front"},
    "candidates": 200,
    "budget_ms": 25.0,
    "vertical": "feed_click",
    "repeats": 2,
    "seconds": 12.0,
    "models": {"naive": {"weights": "given"}},
    "quality": {"task": "click", "ne_student": 0.8004, "ne_naive": 0.8, "engine": "onnx_rows", "ne_gap": 0.0005},
    "versions": {"exfm": {"exfm-serving": "0.1.0", "commit": "abc"}, "mosec": {"mosec": "0.9.8"}},
    "skipped": {"ray": "no <wheel>"},
    "capacity_rps": {"exfm": [290.0, 310.0], "mosec": [100.0, 100.0]},
    "goodput_rps": {"exfm": {"1x": [99.0, 101.0], "4x": [280.0, 280.0]}, "mosec": {"1x": [95.0, 97.0]}},
    "best_peer": {"name": "mosec", "capacity_rps": 100.0, "ours": False},
    "loadgen": {"valid": True, "qps": 285.0, "capacity_rps": 300.0, "notice": "used unofficially"},
    "generator_selftest": {"true_p999_ms": 490.0, "open_p999_ms": 495.0, "closed_p999_ms": 3.0},
}


def test_medians_stand_beside_their_spread() -> None:
    made = medians(RESULT)
    assert made["exfm"]["capacity_rps"] == 300.0
    assert made["exfm"]["capacity_spread"] == pytest.approx(20 / 300)
    assert made["mosec"]["goodput_rps"] == {"1x": 96.0}


def test_the_page_tells_conditions_figures_and_the_referees_word() -> None:
    text = page(RESULT)
    for words in (
        "CPU &lt;one&gt;",
        "ours &amp; &lt;its&gt; Triton",
        "VALID at 285.0/s",
        "used unofficially",
        "a closed loop 3.0 ms",
        "no &lt;wheel&gt;",
    ):
        assert words in text
    assert text.count("<svg") == 2
    assert "given weights" in text
    assert "0.8004 (student, which exfm serves by onnx_rows)" in text
    assert "+0.05%" in text


def test_the_page_begins_with_what_came_of_it() -> None:
    text = page(RESULT)
    assert "<p class=first>exfm holds 300/s with p99 within 25 ms, 3.00 times what the best peer does" in text
    assert text.index("class=first") < text.index("<h2>")


def test_the_page_has_the_spread_of_every_figure_and_how_often_a_system_was_started_anew() -> None:
    bounds = {"exfm": [320.0, None], "mosec": [110.0, 111.0]}
    text = page(RESULT | {"restarts": {"mosec": 3}, "capacity_below_rps": bounds, "capacity_at_least": ["exfm"]})
    cells = [row.split("</td><td>") for row in re.findall(r"<tr><td>(.*?)</td></tr>", text)]
    rows = {row[0]: row[1:] for row in cells if len(row) == 10}
    # Capacity, spread, below, good at 1x, spread, good at 4x, spread, restarts, stolen.
    assert rows["exfm"] == ["at least 300", "7%", "320, ?", "100", "2%", "280", "0%", "0", "?"]
    assert rows["mosec"] == ["100", "0%", "110, 111", "96", "2%", "", "", "3", "?"]


def test_the_page_has_a_table_of_versions_and_one_of_the_machine() -> None:
    text = page(RESULT | {"resumed": ["at noon"], "stolen_share": {"exfm": [0.001], "mosec": [0.12]}})
    for row in (
        "<td>exfm</td><td>exfm-serving 0.1.0, commit abc</td>",
        "<td>mosec</td><td>mosec 0.9.8</td>",
        "<td>date</td><td>2026-01-02</td>",
        "<td>kernel</td><td>Linux 6</td>",
        "<td>memory, GiB</td><td>23.5</td>",
        "<td>packages of the generator</td><td>grpcio 1.8</td>",
        "<td>stopped, and gone on with at</td><td>at noon</td>",
    ):
        assert row in text
    assert "at most 12.0% (a turn of mosec): MORE THAN 2%" in text


def test_the_page_does_without_what_was_left_out() -> None:
    result = copy.deepcopy(RESULT)
    for key in ("loadgen", "generator_selftest", "quality"):
        del result[key]
    result |= {"skipped": {}, "goodput_rps": {}, "best_peer": None}
    text = page(result)
    assert "Is the measurement sound?" not in text
    assert "Skipped" not in text


def test_without_a_published_model_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "bench"
    assert main(["--model-repository", str(nowhere), "--bench-out", str(out)]) == 2
    assert "no published version" in capsys.readouterr().err
    assert not out.exists()


class Interrupted:
    """A comparison that ends after its first turn."""

    def __init__(self) -> None:
        self.result = {
            key: copy.deepcopy(RESULT[key]) for key in ("capacity_rps", "goodput_rps", "versions", "skipped")
        }
        self.result["best_peer"] = RESULT["best_peer"]


def test_what_was_measured_before_a_failure_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {key: value for key, value in RESULT.items() if key not in Interrupted().result}
    monkeypatch.setattr(command, "set_up", lambda _: (Interrupted(), facts))
    seen: list[dict[str, Any]] = []

    def drive(_: Interrupted, done: Callable[[], None]) -> None:
        done()
        seen.append(json.loads((tmp_path / "peers.json").read_text()))
        raise OSError("the machine is tired")

    monkeypatch.setattr(command, "drive", drive)
    assert main(["--model-repository", str(tmp_path), "--bench-out", str(tmp_path)]) == 1
    left = json.loads((tmp_path / "peers.json").read_text())
    assert seen[0]["capacity_rps"] == left["capacity_rps"] == RESULT["capacity_rps"]
    assert left["medians"]["exfm"]["capacity_rps"] == 300.0
    assert (left["finished"], left["failed"]) == (False, "the machine is tired")
    assert (tmp_path / "peers.html").is_file()


def test_a_run_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run", stop)
    assert main(["--bench-out", str(tmp_path)]) == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_a_stopped_run_goes_on_with_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_run = ("about", "candidates", "budget_ms", "vertical", "repeats", "seconds", "models", "quality")
    facts = {**{key: RESULT[key] for key in of_a_run}, "machine": {"started": "now"}, "systems": ["exfm"]}
    plan = Plan(1.0, 1, (), 0, tmp_path)
    monkeypatch.setattr(command, "set_up", lambda _: (Comparison([], [], plan, lambda _: None), dict(facts)))
    turn = {"kind": "capacity", "system": "exfm", "repeat": 0}
    seen: list[Any] = []

    def drive(comparison: Comparison, done: Callable[[], None]) -> None:
        seen.append(dict(comparison.result["capacity_rps"]))
        comparison.result["capacity_rps"]["exfm"] = [90.0]
        comparison.result["turns"].append(turn)
        done()
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "drive", drive)
    monkeypatch.setattr(
        bench, "selftest", lambda: {"true_p999_ms": 490.0, "open_p999_ms": 495.0, "closed_p999_ms": 3.0}
    )
    monkeypatch.setattr(bench, "referee", lambda *_: RESULT["loadgen"])
    (tmp_path / "peers.html").write_text("of another run")
    asked = ["--model-repository", str(tmp_path), "--bench-out", str(tmp_path), "--repeats", "1", "--multiples", "1"]
    assert main(asked) == 130
    assert not (tmp_path / "peers.html").exists()
    main([*asked, "--resume"])
    assert seen == [{}, {"exfm": [90.0]}]
    left = json.loads((tmp_path / "peers.json").read_text())
    assert left["resumed"] == ["now"]
    assert left["loadgen"]["valid"]
    assert (tmp_path / "peers.html").exists()


def test_a_result_that_lacks_something_says_what() -> None:
    asked = Namespace(repeats=2, multiples=(1, 4))
    whole = copy.deepcopy(RESULT) | {"skipped": {}, "systems": ["exfm", "mosec"]}
    whole["goodput_rps"]["mosec"]["4x"] = [1.0, 1.0]
    assert lacks(asked, whole) == []
    whole["loadgen"]["valid"] = False
    assert lacks(asked, whole) == ["loadgen says INVALID at 285.0/s, the least rate that was tried"]
    whole["loadgen"]["faults"] = ["it was busy"]
    assert lacks(asked, whole) == ["loadgen is inconclusive at 285.0/s: it was busy"]
    whole["loadgen"] |= {"valid": True, "qps": 269.0}
    assert lacks(asked, whole) == ["loadgen says VALID at 269.0/s only, below 270.0/s"]
    whole["loadgen"]["qps"] = 270.0
    whole["quality"]["ne_gap"] = 0.0125
    (text,) = lacks(asked, whole)
    assert "not of equal quality" in text
    assert "+1.25%" in text
    short = copy.deepcopy(RESULT) | {"systems": ["exfm", "mosec", "ray"], "generator_selftest": {}}
    assert lacks(asked, short) == [
        "ray was skipped",
        "mosec was measured 0 times of 2",
        "no generator_selftest",
    ]
    assert "ray was skipped" in page(short | {"lacks": lacks(asked, short)})


def spoiled_result() -> dict[str, Any]:
    """As `RESULT`, but of mosec no drive at 4x was sound, and at 1x one of two."""
    result = copy.deepcopy(RESULT) | {"systems": ["exfm", "mosec"], "skipped": {}}
    result["goodput_rps"]["mosec"] = {"1x": [95.0], "4x": []}
    result["left_out"] = {"mosec": {"1x": 1, "4x": 2}}
    result["generator"] = {"mosec": {"drives": 9, "spoiled": 6, "most_cpu_share": 0.4}}
    return result


def test_what_the_generator_spoiled_is_in_no_median_and_told() -> None:
    result = spoiled_result()
    made = medians(result)["mosec"]
    assert made["goodput_rps"] == {"1x": 95.0, "4x": None}
    assert made["goodput_spread"]["4x"] == 0.0
    found = lacks(Namespace(repeats=2, multiples=(1, 4)), result)
    assert [text.split(" left out")[0] for text in found] == [
        "mosec: 1 of 2 repeats at 1x",
        "mosec: 2 of 2 repeats at 4x",
    ]
    text = page(result)
    assert "2 of 2 repeats at 4x left out of the median, as the generator was the bottleneck: there is none" in text


@pytest.mark.parametrize("spoiled", [True, False])
def test_a_missing_median_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoiled: bool
) -> None:
    made = spoiled_result() if spoiled else copy.deepcopy(RESULT) | {"systems": ["exfm", "mosec"]}
    monkeypatch.setattr(bench, "run", lambda _, result: result.update(made))
    assert main(["--bench-out", str(tmp_path), "--multiples", "1,4"]) == int(spoiled)
    assert ("lacks: mosec: 2 of 2 repeats at 4x" in capsys.readouterr().out) is spoiled


def test_a_p99_that_the_deadline_has_cut_says_so_beside_the_figure() -> None:
    where = {"kind": "goodput", "multiple": 1, "repeat": 0}
    result = copy.deepcopy(RESULT) | {
        "trials": [
            {**where, "system": "exfm", "p99_ms": 19.0},
            {**where, "system": "exfm", "p99_ms": 21.0},
            {**where, "system": "mosec", "p99_ms": 150.0},
            {**where, "system": "mosec", "p99_ms": 21.0},
            {**where, "system": "mosec", "p99_ms": 999.0, "kind": "left_out"},
        ]
    }
    text = page(result)
    assert "<td>exfm</td><td>20.0</td>" in text
    assert "<td>mosec</td><td>at least 23.0 (cut at the deadline)</td>" in text
    assert "callers give up at their deadline, 25 ms after" in text
    assert medians(result)["mosec"]["p99"] == {"1x": {"ms": 23.0, "cut": True}}


def test_wrong_answers_and_what_exfm_was_started_with_stand_on_the_page() -> None:
    counts = {"exfm": {"wrong": 0, "offered": 900}, "mosec": {"wrong": 3, "offered": 1000}}
    text = page(copy.deepcopy(RESULT) | {"wrong_answers": counts, "serve_arguments": ["--workers", "1"]})
    assert "<b>mosec</b>: WRONG in 3 answers (0.003 of all requests)" in text
    assert "<b>exfm</b>: WRONG" not in text
    assert "exfm-serve was given: --workers 1." in text
