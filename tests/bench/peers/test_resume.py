"""Which stopped run may be gone on with."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.peers.resume import resumed
from loadtest.commands.peers import UsageError
from loadtest.peers.compare import Comparison, Plan

FACTS: dict[str, Any] = {
    "machine": {"started": "at ten", "load_before": 0.1, "cores": 2, "versions": {"grpcio": "1"}},
    "systems": ["exfm"],
    "about": {"exfm": "ours"},
    "seconds": 8.0,
    "repeats": 2,
    "multiples": [1, 2],
    "serve_arguments": [],
    "models": {"student": {"folder": "here", "golden": "abc"}},
}


def comparison(tmp_path: Path) -> Comparison:
    return Comparison([], [], Plan(8.0, 2, (1, 2), 0, tmp_path), lambda _: None)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    turn = {"kind": "capacity", "system": "exfm", "repeat": 0}
    result = {**comparison(tmp_path).result, "capacity_rps": {"exfm": [90.0]}, "turns": [turn]}
    path = tmp_path / "peers.json"
    path.write_text(json.dumps({**FACTS, **result, "generator_selftest": {"true_p999_ms": 1.0}, "medians": {}}))
    return path


def test_the_same_run_goes_on_whatever_the_hour(stopped: Path, tmp_path: Path) -> None:
    facts = copy.deepcopy(FACTS) | {"about": {"exfm": "our server"}}
    facts["machine"] |= {"started": "at noon", "load_before": 1.9}
    going_on = comparison(tmp_path)
    kept = resumed(stopped, going_on, facts)
    assert going_on.result["capacity_rps"] == {"exfm": [90.0]}
    assert kept == {
        "machine": FACTS["machine"],
        "resumed": ["at noon"],
        "generator_selftest": {"true_p999_ms": 1.0},
    }


def test_a_finished_run_is_not_gone_on_with(stopped: Path, tmp_path: Path) -> None:
    stopped.write_text(json.dumps(json.loads(stopped.read_text()) | {"finished": True}))
    with pytest.raises(UsageError, match="is finished"):
        resumed(stopped, comparison(tmp_path), FACTS)


def test_a_test_of_the_generator_that_failed_is_made_again(stopped: Path, tmp_path: Path) -> None:
    failed = {"generator_selftest": {"true_p999_ms": 1.0, "verdict": "fail"}}
    stopped.write_text(json.dumps(json.loads(stopped.read_text()) | failed))
    assert "generator_selftest" not in resumed(stopped, comparison(tmp_path), FACTS)


@pytest.mark.parametrize(("faults", "stays"), [([], True), (["it was busy"], False)])
def test_a_ruling_that_was_inconclusive_is_asked_for_again(
    stopped: Path, tmp_path: Path, faults: list[str], stays: bool
) -> None:
    ruling = {"loadgen": {"valid": False, "faults": faults}}
    stopped.write_text(json.dumps(json.loads(stopped.read_text()) | ruling))
    assert ("loadgen" in resumed(stopped, comparison(tmp_path), FACTS)) is stays


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 5.0}, "another seconds: 8.0 there, 5.0 here"),
        ({"repeats": 3}, "another repeats"),
        ({"serve_arguments": ["--workers", "1"]}, "another serve_arguments"),
        ({"models": {"student": {"folder": "here", "golden": "abd"}}}, "another models: student, golden, abc there"),
        ({"machine": {**FACTS["machine"], "cores": 4}}, "another machine: cores, 2 there, 4 here"),
        ({"machine": {**FACTS["machine"], "versions": {"grpcio": "2"}}}, "another machine: versions, grpcio"),
    ],
)
def test_another_run_is_refused(stopped: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    going_on = comparison(tmp_path)
    with pytest.raises(UsageError, match=words):
        resumed(stopped, going_on, FACTS | changes)
    assert going_on.result["turns"] == []


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", json.dumps(FACTS)])
def test_what_is_no_result_of_a_stopped_run_is_bad_usage(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "peers.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"peers.json can't be gone on with") as raised:
        resumed(path, comparison(tmp_path), FACTS)
    assert "\n" not in str(raised.value)
