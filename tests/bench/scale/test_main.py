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
    assert command.main(["--only", "stores", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "scale.json").read_text()) == {name: said[name] for name in ("logs", "stores")}


@pytest.mark.parametrize(("ratio", "code"), [(1.1, 0), (1.5, 1)])
def test_a_target_that_is_missed_is_a_failure_and_said(
    said: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, code: int
) -> None:
    said["planner"] = {"ratio": ratio}
    assert command.main(["--only", "planner", "--out", str(tmp_path)]) == code
    assert ("bench-scale: planner: ratio of predicted" in capsys.readouterr().err) == bool(code)
    assert json.loads((tmp_path / "scale.json").read_text()) == {"planner": {"ratio": ratio}}


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
