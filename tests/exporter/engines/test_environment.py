import logging
import sys
from pathlib import Path

import pytest

from exporter.engines.environment import STAMP, ask, server_packages
from exporter.engines.table import SERVER_PACKAGES


def environment(folder: Path, answer: str) -> Path:
    """One whose Python prints that, whatever it is asked."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    python.chmod(0o755)
    return folder


def test_an_environment_is_asked_where_the_server_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXFM_TRITON_ENV", raising=False)
    assert server_packages() == SERVER_PACKAGES
    monkeypatch.setenv("EXFM_TRITON_ENV", str(environment(tmp_path / "named", """echo '["torch"]'""")))
    assert server_packages() == ("torch",)


def test_the_answer_is_that_environments_own(tmp_path: Path) -> None:
    made = environment(tmp_path / "this", f'exec {sys.executable} "$@"')
    assert set(ask(made)) == {"onnxruntime", "openvino", "torch"}
    bare = environment(tmp_path / "bare", f'exec {sys.executable} -S "$@"')
    assert ask(bare) == ()


def test_one_that_does_not_answer_is_taken_for_a_usual_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert ask(environment(tmp_path / "broken", "exit 3")) == SERVER_PACKAGES
    assert "does not say what it has" in caplog.text


def test_one_that_is_still_being_made_is_not_there_yet(tmp_path: Path) -> None:
    made = environment(tmp_path / "made", "echo '[]'")
    (made / STAMP).touch()
    assert ask(made) == SERVER_PACKAGES
