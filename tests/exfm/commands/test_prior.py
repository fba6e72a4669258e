import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exfm.commands import prior as command
from exfm.data.source import Source
from exfm.features.prior_file import NAME, read_prior

Make = Callable[..., Source]
Run = Callable[..., int]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("clicks", "buys"):
        (tmp_path / "repository" / name).mkdir(parents=True)
        (tmp_path / "repository" / name / "config.pbtxt").touch()
    return tmp_path / "repository"


@pytest.fixture
def run(tiny: Make, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`exfm-prior` over the tiny log."""
    monkeypatch.delenv("EXFM_DATA_DIR", raising=False)
    monkeypatch.setattr(command, "open_source", lambda _data, _seed: tiny(300))
    return lambda *more: command.main(["--repository", str(repository), *more])


def test_the_priors_of_a_log_are_put_beside_the_versions(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert [(one["vertical"], one["version"], one["ads"]) for one in written] == [("clicks", 1, 70), ("buys", 1, 70)]
    assert 0 < written[0]["last_day"]["auc"] < 1
    for one in written:
        assert read_prior(repository / one["vertical"] / NAME).learned_until_ms == one["learned_until_ms"]
    assert run() == 0
    assert "clicks: prior 2 for 70 ads; last day, predicted before learned: auc 0." in capsys.readouterr().out


def test_an_unpublished_vertical_is_refused_in_one_line(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "clicks" / "config.pbtxt").unlink()
    assert run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no published model of vertical 'clicks'" in err.splitlines()[-1]
    assert not list(repository.rglob(NAME))


def test_a_file_that_is_no_checkpoint_is_refused_by_name(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junk = repository / "junk.pt"
    junk.write_bytes(b"junk")
    assert run("--checkpoint", str(junk)) == 2
    assert "junk.pt: not a readable checkpoint" in capsys.readouterr().err


def test_a_repository_that_cannot_be_written_is_a_failure(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "clicks" / NAME).mkdir()
    assert run() == 1
    assert "exfm-prior: " in capsys.readouterr().err


def test_help_teaches(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    out = capsys.readouterr().out
    assert "prior.npz" in out
    assert "exit codes" in out
