"""`python -m serving.embedded`; that it serves is shown by tests/e2e/test_several_machines.py."""

from pathlib import Path

import pytest

from serving.embedded.__main__ import main


@pytest.mark.parametrize("value", ["localhost:8001", "10.0.0.1", "10.0.0.1:x", "10.0.0.1:65536", "[::1]:8001", ""])
def test_an_address_that_is_none_is_told(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", "--listen", value])
    assert caught.value.code == 2
    assert f"argument --listen: {value!r} is not IP:PORT" in capsys.readouterr().err


def test_without_a_model_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model-repository", str(tmp_path)]) == 2
    assert "serving.embedded: " in capsys.readouterr().err


def test_keys_that_are_missing_are_told(
    published_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model-repository", str(published_repository), "--trusted-keys", str(tmp_path)]) == 2
    assert f"serving.embedded: trusted keys {tmp_path}: no *.pem there" in capsys.readouterr().err
