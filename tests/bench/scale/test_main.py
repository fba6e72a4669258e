"""The bench's command: parts, their places in the result, and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.scale import __main__ as command


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the parts report."""
    reports: dict[str, Any] = {name: {"part": name} for name in command.PARTS}
    for name in command.PARTS:
        monkeypatch.setitem(command.PARTS, name, ("json", lambda *_, name=name: reports[name]))
    return reports


def test_each_part_has_its_key_and_the_others_stay(said: dict[str, Any], tmp_path: Path) -> None:
    assert command.main(["--only", "logs", "--out", str(tmp_path)]) == 0
    assert command.main(["--only", "valkey", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "scale.json").read_text()) == {name: said[name] for name in ("logs", "valkey")}


@pytest.mark.parametrize(
    ("part", "report", "code"),
    [
        ("jetstream", {"acked_lost": 0, "duplicates": 0}, 0),
        ("jetstream", {"acked_lost": 1, "duplicates": 0}, 1),
        ("jetstream", {"acked_lost": 0, "duplicates": 2}, 1),
        ("ray", {"annotated_once": True}, 0),
        ("ray", {"annotated_once": False}, 1),
        ("plane", {"lost_outcomes": 0, "duplicates": 0, "unaccounted": 0, "store_wrong": 0}, 0),
        ("plane", {"lost_outcomes": 0, "duplicates": 0, "unaccounted": 3, "store_wrong": 0}, 1),
        ("frontends", {"via": {"envoy": {"failed": 2, "killed_in_flight": 2}}}, 0),
        ("frontends", {"via": {"envoy": {"failed": 3, "killed_in_flight": 2}}}, 1),
    ],
)
def test_a_loss_is_a_failure(
    said: dict[str, Any], tmp_path: Path, part: str, report: dict[str, Any], code: int
) -> None:
    said[part] = report
    assert command.main(["--only", part, "--out", str(tmp_path)]) == code


def test_the_result_alone_is_on_standard_output(
    said: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "stores", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stores": said["stores"]}


def test_what_is_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.PARTS, "logs", ("not_installed", lambda *_: {}))
    assert command.main(["--only", "logs", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "bench-scale: logs: ModuleNotFoundError: No module named 'not_installed'\n"


def test_an_unknown_part_is_bad_usage() -> None:
    with pytest.raises(SystemExit) as raised:
        command.main(["--only", "kafka"])
    assert raised.value.code == 2
