import json
from pathlib import Path

import pytest

import demo.__main__ as command
from demo.holdout import HoldoutError
from demo.server import DemoError
from exfm.distill.trainer import TrainingError
from serving.errors import InvalidRequestError, UnreachableError


def test_nan_is_null_in_the_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    summary = {"data": "x", "verticals": {"feed": {"auc": float("nan"), "ne": 0.5, "rows": 3}}}
    monkeypatch.setattr(command, "run", lambda _: summary)
    assert command.main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text)["verticals"] == {"feed": {"auc": None, "ne": 0.5, "rows": 3}}
    assert "NaN" not in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingError("no impressions"), 2),
        (HoldoutError("spans no time"), 2),
        (DemoError("not ready"), 1),
        (InvalidRequestError("too many"), 1),
        (UnreachableError("gone"), 1),
        (PermissionError("no"), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(_: object) -> None:
        raise error

    monkeypatch.setattr(command, "run", run)
    assert command.main(["--out", str(tmp_path)]) == code
    assert capsys.readouterr().err == f"demo: {error}\n"
