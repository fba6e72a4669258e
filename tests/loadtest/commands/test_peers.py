import argparse
import json
from pathlib import Path

import pytest

from loadtest.commands import peers as command
from loadtest.peers.compare import Comparison
from loadtest.peers.model import Model
from loadtest.peers.telling import table


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def given(student: Model, tmp_path: Path) -> tuple[str, ...]:
    return ("--model-repository", str(student.repository), "--vertical", "feed_click", "--out", str(tmp_path))


def test_it_lists_what_there_is(given: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(parsed(*given, "--list", "--json")) == 0
    names = json.loads(capsys.readouterr().out)
    assert names[:2] == ["exfm", "exfm_same_onnx"]
    assert {"triton", "triton_queue_timeouts", "fastapi", "mosec", "bentoml", "ray", "litserve"} == set(names[2:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "exfm,nobody"), "--only nobody: there are exfm"),
        (("--candidates", "501"), "--candidates 501: feed_click takes 500"),
        (("--vertical", "none"), "no published version of none"),
        (("--naive", "nowhere.onnx"), "nowhere.onnx: no such file"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert command.main(parsed(*given, *arguments)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_another_verticals_naive_model_is_refused(
    student: Model, given: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "feed_click").symlink_to(student.repository / "feed_long_view")
    assert command.main(parsed(*given, "--naive", str(other))) == 2
    assert "another schema" in capsys.readouterr().err


def test_the_table_orders_by_capacity_and_names_what_was_skipped() -> None:
    result = {
        "capacity_rps": {"mosec": [100.0, 120.0], "exfm": [300.0, 300.0]},
        "goodput_rps": {"exfm": {"1x": [110.0]}, "mosec": {"1x": [90.0]}},
        "skipped": {"ray": "not installable here: no wheel\nmore"},
        "versions": {"mosec": {"mosec": "0.9.8"}},
    }
    lines = table(result).splitlines()
    assert lines[0] == "exfm holds 300/s, 2.73 times what the best peer does, 110/s (mosec)."
    head = next(at for at, line in enumerate(lines) if "capacity/s" in line)
    assert [line.split()[0] for line in lines[head + 1 : head + 3]] == ["exfm", "mosec"]
    assert lines[head + 2].split() == ["mosec", "110", "18%", "90", "?", "0", "?"]
    assert "ray                     skipped: not installable here: no wheel" in lines
    assert lines[-1].split() == ["mosec", "mosec", "0.9.8"]


def test_what_was_measured_before_an_interrupt_is_told(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drive(comparison: Comparison) -> None:
        comparison.result["capacity_rps"]["exfm"] = [120.0]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "drive", drive)
    assert command.main(parsed(*given, "--only", "exfm", "--json")) == 130
    told = json.loads(capsys.readouterr().out)
    assert told["interrupted"]
    assert told["capacity_rps"] == {"exfm": [120.0]}


def test_what_our_server_was_started_with_is_told(given: tuple[str, ...]) -> None:
    _, facts = command.set_up(parsed(*given, "--only", "exfm", "--serve-arguments", "--workers 2 --note 'a b'"))
    assert facts["serve_arguments"] == ["--workers", "2", "--note", "a b"]
    _, facts = command.set_up(parsed(*given, "--only", "exfm"))
    assert facts["serve_arguments"] == []
    assert facts["models"]["student"]["golden"] != facts["models"]["naive"]["golden"]


def test_a_figure_without_a_median_is_a_failure_that_is_told(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    goods: list[float] = []

    def drive(comparison: Comparison) -> None:
        comparison.result["capacity_rps"]["exfm"] = [120.0]
        comparison.result["goodput_rps"]["exfm"] = {"2x": goods}
        comparison.result["left_out"] = {"exfm": {"2x": 1}}

    monkeypatch.setattr(command, "drive", drive)
    assert command.main(parsed(*given, "--only", "exfm", "--json")) == 1
    assert "1 of 1 repeats at 2x left out" in json.loads(capsys.readouterr().out)["lacks"][0]
    goods.append(100.0)
    assert command.main(parsed(*given, "--only", "exfm", "--json")) == 0
