"""`exfm-annotate` from end to end, on a log that serving would have written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.asynchrony.teacher import publish
from bench.asynchrony.traffic import impressions, outcomes
from exfm.augment.annotate.snapshots import Snapshots
from exfm.commands.annotate import main
from exfm.data.annotated import StreamReader
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import impression, outcome
from exfm.events.sqlite import SqliteLog

ROWS = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = Source("simulator", *simulate(0, Scale(rows=ROWS, days=2, users=60, ads=40)))
    publish(source.schema, tmp_path / "snapshots", dimension=4, embedding=8)
    log, served = SqliteLog(tmp_path / "log.sqlite"), impressions(source, source.examples)
    told = list(outcomes(source.examples, served))
    log.append(outcome.TOPIC, outcome.encode(told), len(told), os.urandom(16))
    log.append(impression.TOPIC, impression.encode(served), len(served), os.urandom(16))
    log.close()
    return tmp_path


def test_it_joins_annotates_and_does_the_books(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--dir", str(folder), "--drain", "--workers", "local:0", "--keep-priority"]
    assert main([*run, "--window", "buy=7200", "--idle-s", "0.001", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["impressions"]["logged"] == ROWS
    assert report["impressions"]["trained"] + report["impressions"]["pending"] == ROWS
    assert report["impressions"]["trained"] > 0
    assert report["impressions"]["unaccounted"] == report["outcomes"]["unaccounted"] == 0
    assert sum(len(part) for part in StreamReader(folder / "stream").read()) == report["impressions"]["trained"]
    assert main(["status", "--dir", str(folder)]) == 0
    assert "unaccounted 0" in capsys.readouterr().out


def test_join_and_annotate_may_be_two_processes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--dir", str(folder), "--drain", "--keep-priority", "--json"]
    assert main(["join", *common, "--idle-s", "inf"]) == 0
    waiting = json.loads(capsys.readouterr().out)["impressions"]["waiting"]
    assert waiting > 0
    assert main(["annotate", *common, "--workers", "local:0", "--store", "none"]) == 0
    report = json.loads(capsys.readouterr().out)["impressions"]
    assert (report["trained"], report["waiting"]) == (waiting, 0)
    assert not (folder / "store").exists()


def test_the_books_need_no_teacher_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(Snapshots, "load")
    assert main(["status", "--dir", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["impressions"]["pending"] == ROWS


def test_publishing_makes_a_checkpoint_current(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(folder / "snapshots" / "bench.pt")
    assert main(["publish", checkpoint, "--name", "monday", "--dir", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"].startswith("monday-")
    assert (folder / "snapshots" / "CURRENT").read_text().strip() == "monday"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--log", "kafka:x"], "event log: 'kafka:x' is none of nats:..., sqlite:..."),
        (["run", "--workers", "spark:2"], "workers: 'spark:2' is none of local:..., ranks:..., ray:..."),
        (["run", "--window", "purchase=60"], "window: there is no task 'purchase'; there are click, buy"),
        (["run", "--store", "memcached:x"], "embedding store: 'memcached:x' is none of lmdb:..."),
        (["publish", "nothing.pt", "--name", "a"], "nothing.pt: there is no such checkpoint"),
        (["publish", "{junk}", "--name", "a"], "not a readable checkpoint"),
        (["publish", "tests", "--name", "a"], "snapshot 'a': tests: no sharded teacher"),
        (["publish", "{junk}", "--name", "../a"], "a name is made of"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (folder / "junk.pt").write_bytes(b"junk")
    filled = [each.replace("{junk}", str(folder / "junk.pt")) for each in arguments]
    assert main([*filled, "--dir", str(folder), "--keep-priority"][: None if arguments[0] == "run" else -1]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_workers_that_cannot_be_reached_are_one_line_and_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'exfm-serving[scale]'")
    assert main(["annotate", "--dir", str(folder), "--keep-priority", "--workers", "ray://127.0.0.1:1/2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("exfm-annotate: ray://127.0.0.1:1/2: ")
    assert "refused" in error
    assert error.count("\n") == 1


def test_without_a_teacher_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dir", str(tmp_path), "--keep-priority"]) == 2
    assert "no current snapshot" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--window", "buy"], ["--window", "buy=-1"], ["--batch", "0"], ["--codec", "int2"]])
def test_bad_usage_is_exit_code_2(bad: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *bad])
    assert ended.value.code == 2


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown: Callable[[str], bool] = capsys.readouterr().out.__contains__
    assert all(shown(word) for word in ("publish", "status", "ranks:N", "examples:", "exit codes:"))
