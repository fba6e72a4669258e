"""The bench's own parts: what it writes, and how it ends when it can't begin."""

import copy
from pathlib import Path
from typing import Any

import pytest

from bench.peers.__main__ import main, medians
from bench.peers.page import page

RESULT: dict[str, Any] = {
    "machine": {"processor": "CPU <one>", "cores": 2},
    "candidates": 200,
    "budget_ms": 25.0,
    "vertical": "feed_click",
    "repeats": 2,
    "seconds": 12.0,
    "models": {"naive": {"weights": "random"}},
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
        "VALID at 285.0/s",
        "used unofficially",
        "a closed loop 3.0 ms",
        "no &lt;wheel&gt;",
    ):
        assert words in text
    assert text.count("<svg") == 2
    assert "random weights" in text


def test_the_page_does_without_what_was_left_out() -> None:
    result = copy.deepcopy(RESULT)
    for key in ("loadgen", "generator_selftest"):
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
