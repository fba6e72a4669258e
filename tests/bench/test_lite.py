from pathlib import Path

import pytest

from bench import lite


def test_a_repository_without_lite_models_is_refused(
    published_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lite.main(["--model-repository", str(published_repository)]) == 2
    assert "no vertical has a lite model" in capsys.readouterr().err
