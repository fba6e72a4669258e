"""The bench's own parts: what it writes, and how it ends when it can't begin."""

import copy
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.peers.__main__ import lacks, main, medians
from bench.peers.page import page
from loadtest.commands import peers as command

RESULT: dict[str, Any] = {
    "machine": {"processor": "CPU <one>", "cores": 2},
    "about": {"exfm": "ours & <its> Triton", "mosec": "its own front"},
    "candidates": 200,
    "budget_ms": 25.0,
    "vertical": "feed_click",
    "repeats": 2,
    "seconds": 12.0,
    "models": {"naive": {"weights": "given"}},
    "quality": {"task": "click", "ne_student": 0.81, "ne_naive": 0.8, "engine": "onnx_rows", "ne_gap": 0.0125},
    "versions": {"mosec": {"mosec": "0.9.8"}},
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
    assert "0.8100 (student, which exfm serves by onnx_rows)" in text
    assert "+1.25%" in text


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


def test_a_result_that_lacks_something_says_what() -> None:
    asked = Namespace(repeats=2, multiples=(1, 4))
    whole = copy.deepcopy(RESULT) | {"skipped": {}, "systems": ["exfm", "mosec"]}
    whole["goodput_rps"]["mosec"]["4x"] = [1.0, 1.0]
    assert lacks(asked, whole) == []
    short = copy.deepcopy(RESULT) | {"systems": ["exfm", "mosec", "ray"], "generator_selftest": {}}
    assert lacks(asked, short) == [
        "ray was skipped",
        "mosec was measured 0 times of 2",
        "no generator_selftest",
    ]
    assert "ray was skipped" in page(short | {"lacks": lacks(asked, short)})
