import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exfm.commands import train as command
from exfm.data.source import Source
from exfm.distill import report

Make = Callable[..., Source]
SMALL = "[stream]\nchunk = 100\n[teacher.model]\nlayers = 1\nhidden = 16\n"


@pytest.fixture
def run(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`exfm-train` over the tiny log, into tmp_path/run."""
    monkeypatch.delenv("EXFM_DATA_DIR", raising=False)
    monkeypatch.setattr(command, "open_source", lambda _data, _seed: tiny(300))
    settings = tmp_path / "mine.toml"
    settings.write_text(SMALL, encoding="utf-8")
    fixed = ["--out", str(tmp_path / "run"), "--threads", "1", "--config", str(settings)]
    return lambda *more: command.main([*fixed, *more])


def test_json_is_all_that_stands_on_standard_output(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "--seed", "3") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "tiny:" in err


def test_the_table_names_each_vertical(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert "clicks" in out
    assert "buys" in out


def test_a_bad_setting_is_refused_in_one_line(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("[teacher]\nlayrs = 3\n", encoding="utf-8")
    assert run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "unknown key 'teacher.layrs'" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_data_folder_is_refused(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", "/nowhere/at/all") == 2
    assert "/nowhere/at/all" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_fails(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("in the way", encoding="utf-8")
    assert run() == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_stream_is_learned_as_it_grows(
    run: Callable[..., int],
    tiny: Make,
    write_stream: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "draw", lambda *_: None)
    stream = write_stream(tiny(300), 50, 0, 200)
    asked = ["--stream", str(stream), "--resume", "--window-rows", "100", "--consumer", "mine"]
    assert run(*asked, "--json") == 0
    assert json.loads(capsys.readouterr().out)["place"] == {"log": 0, "row": 200, "commit": 4, "learned": 200}
    write_stream(tiny(300), 50, 200)
    assert run(*asked, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 100
    assert (stream / "cursors" / "mine").read_text() == "300\n"
    assert run(*asked, "--seed", "4") == 2
    assert "other settings: seed was 0, is 4" in capsys.readouterr().err
    assert run("--stream", str(stream / "none")) == 2
    assert "stream.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--resume"], ["--stream", "x", "--consumer", "../x"], ["--threads", "0"], ["--threads", "x"], ["--sed", "3"]],
)
def test_bad_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "exfm-export" in out
