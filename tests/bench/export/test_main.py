import json
from pathlib import Path

import pytest

from bench.export import parity
from bench.export.__main__ import main, merged


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "exit codes" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--only", "nothing"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_data_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "/nonexistent", "--only", "engines"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_was_not_measured_this_time_stays(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    students = {"data": "kuairand", "cores": 2, "engines": ["old"], "students": {"a": 1}}
    assert merged(path, students) == students
    path.write_text(json.dumps({**students, "kill": {"rounds": 9}}))
    assert merged(path, {"kill": {"rounds": 7}}) == {**students, "kill": {"rounds": 7}}
    again = {"data": "kuairand", "cores": 2, "engines": ["new"]}
    assert merged(path, again) == {**students, **again, "kill": {"rounds": 9}}
    other = {"data": "simulator", "cores": 2, "engines": ["new"]}
    assert merged(path, other) == {**other, "kill": {"rounds": 9}}
    path.write_text("[")
    assert merged(path, other) == other


def test_parity_is_measured_in_an_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the last run has published there: another log's students would be refused as worse."""

    class Measured(Exception):  # noqa: N818  (no error)
        pass

    def export(_: object, repository: Path, *__: object) -> None:
        assert not repository.exists()
        raise Measured

    monkeypatch.setattr(parity, "export", export)
    (tmp_path / "parity-onnx" / "model_repository" / "feed_click").mkdir(parents=True)
    with pytest.raises(Measured):
        parity.measure({"feed_click": tmp_path / "student.pt"}, ["onnx"], tmp_path, lambda _: None)
