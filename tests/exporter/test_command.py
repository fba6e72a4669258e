import json
from pathlib import Path
from typing import Any

import pytest

from exfm.features.schema import Schema
from exporter.command import main


@pytest.fixture
def checkpoint(tiny_schema: Schema, make_checkpoint: Any, tmp_path: Path) -> Path:
    path = tmp_path / "student.pt"
    make_checkpoint(tiny_schema, "feed_long_view").save(path)
    return path


def test_json_says_what_was_published(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), "--repository", str(tmp_path / "repository"), "--json", "--max-batch", "4"]) == 0
    printed = capsys.readouterr()
    published = json.loads(printed.out)
    assert (published["vertical"], published["version"]) == ("feed_long_view", 1)
    assert Path(published["path"]).is_dir()
    assert "converting to ONNX" in printed.err
    assert "Warning" not in printed.err
    assert "max_batch_size: 4" in (tmp_path / "repository" / "feed_long_view" / "config.pbtxt").read_text()


def test_a_refusal_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "junk.pt").write_bytes(bytes(64))
    assert main([str(tmp_path / "junk.pt"), "--repository", str(tmp_path / "repository")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"exfm-export: {tmp_path / 'junk.pt'}: not a readable checkpoint")


def test_a_missing_checkpoint_is_2(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.pt"), "--repository", str(tmp_path)]) == 2


def test_an_unwritable_repository_is_1(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(checkpoint), "--repository", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["x.pt", "--max-batch", "0"], ["x.pt", "--instances", "many"]])
def test_wrong_arguments_are_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
