"""The example of docs/export.md, "A model of your own", then as the vendor's graph: commands as they stand there."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from exporter.command import main

TEXT = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_the_example_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deepfm", raising=False)
    for name, text in zip(("feed.toml", "deepfm.py", "train.py"), fenced("toml") + fenced("python"), strict=True):
        Path(name).write_text(text, encoding="utf-8")
    train, export, *vendor = [shlex.split(line) for block in fenced("console") for line in block.splitlines()]
    assert [words[0] for words in (train, export, *vendor)] == ["python", *["exfm-export"] * 3]
    try:
        runpy.run_path(train[1], run_name="__main__")
        assert main(export[1:]) == 0
        assert [main(words[1:]) for words in vendor] == [0, 0]
    finally:
        sys.modules.pop("deepfm", None)
    manifest = json.loads(Path("model_repository/feed_click/1/manifest.json").read_text())
    assert manifest["quality"]["ne"] < 1
    assert main(["verify"]) == 0
    assert main(["verify", "--repository", "vendor_repository"]) == 0
