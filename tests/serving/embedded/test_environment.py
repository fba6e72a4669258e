import json
import subprocess
from pathlib import Path

import pytest

from serving.embedded import environment as module
from serving.embedded.environment import STAMP, TritonEnvironment, default_path, ensure, main
from serving.embedded.errors import EnvironmentUnusableError


def test_numpy_is_below_2_in_it(triton_environment: TritonEnvironment) -> None:
    command = [str(triton_environment.python), "-c", "import numpy; print(numpy.__version__)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("1.26.")


def test_its_place_comes_from_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXFM_TRITON_ENV", str(tmp_path / "here"))
    assert default_path() == tmp_path / "here"
    monkeypatch.delenv("EXFM_TRITON_ENV")
    monkeypatch.chdir(tmp_path)
    assert default_path() == tmp_path / ".venv-triton"


def test_a_finished_one_is_not_built_again(
    triton_environment: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_build", pytest.fail)
    assert ensure(triton_environment.path) == triton_environment


@pytest.mark.parametrize(("stamp", "said"), [(None, "no finished"), ("{}", "has other pins")])
def test_an_unfinished_or_stale_one_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: str | None, said: str
) -> None:
    built: list[Path] = []

    def build(environment: TritonEnvironment, _: object) -> None:
        built.append(environment.path)
        raise EnvironmentUnusableError("no network")

    if stamp is not None:
        (tmp_path / STAMP).write_text(stamp)
    monkeypatch.setattr(module, "_build", build)
    steps: list[str] = []
    with pytest.raises(EnvironmentUnusableError, match="no network"):
        ensure(tmp_path, steps.append)
    assert built == [tmp_path]
    assert said in steps[0]


def test_what_stands_behind_a_link_is_left_alone(tmp_path: Path) -> None:
    stamp = tmp_path / "standing" / STAMP
    stamp.parent.mkdir()
    stamp.write_text("{}")
    (tmp_path / "link").symlink_to(stamp.parent)
    with pytest.raises(EnvironmentUnusableError, match=r"link is a link; remove it"):
        ensure(tmp_path / "link")
    assert stamp.read_text() == "{}"


@pytest.mark.parametrize("name", ["notes.txt", "pyvenv.cfg", "lib/important.txt"])
def test_a_folder_of_somebody_elses_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Also another virtual environment: `--path .venv` must not end the product's own."""
    monkeypatch.setattr(module, "_run", pytest.fail)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")
    assert main(["--path", str(tmp_path)]) == 1
    assert f"{tmp_path} is not empty, and no Triton environment that was built here" in capsys.readouterr().err
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path(name)]


@pytest.mark.parametrize("stamp", [None, "", "{}"])
def test_an_own_folder_is_emptied_and_stays_known_for_one_until_the_build_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: str | None
) -> None:
    if stamp is not None:
        (tmp_path / STAMP).write_text(stamp)
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib/old.txt").touch()
        (tmp_path / "lib64").symlink_to("lib")

    def create(_: object, __: object) -> None:
        assert [path.name for path in tmp_path.iterdir()] == [STAMP]
        raise KeyboardInterrupt

    monkeypatch.setattr("venv.EnvBuilder.create", create)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ensure(tmp_path)
        with pytest.raises(EnvironmentUnusableError, match="no finished"):
            TritonEnvironment(tmp_path).verify()


def test_a_file_where_the_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnusableError, match="no folder for the Triton environment: "):
        ensure(tmp_path / "file")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text(module._stamp_text())
    with pytest.raises(EnvironmentUnusableError, match=r"bin/python is missing; build it with"):
        TritonEnvironment(tmp_path).verify()


def test_variables_keep_the_callers_python_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PATH", "/usr/bin")
    variables = TritonEnvironment(tmp_path).variables()
    assert "PYTHONPATH" not in variables
    assert variables["PATH"] == f"{tmp_path}/bin:/usr/bin"
    assert "nvidia_pytriton.libs" in variables["LD_LIBRARY_PATH"]


def test_the_installers_last_lines_are_shown() -> None:
    with pytest.raises(EnvironmentUnusableError, match="failed with 3:\nno such wheel"):
        module._run("sh", "-c", "echo no such wheel; exit 3")


def test_the_command_checks_without_building(
    triton_environment: TritonEnvironment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", "--path", str(tmp_path)]) == 1
    assert "no finished Triton environment" in capsys.readouterr().err
    assert main(["--check", "--json", "--path", str(triton_environment.path)]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(triton_environment.path)


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonEnvironment:
    """A finished one, as far as files go; its stub runs, and another release has placed the starter."""
    environment = TritonEnvironment(tmp_path)
    for path in (environment.python, environment.server, environment.stub, environment.starter):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\nexit 1\n")
        path.chmod(0o755)
    (tmp_path / STAMP).write_text(module._stamp_text())
    monkeypatch.setattr(module, "_build", pytest.fail)
    return environment


def test_another_releases_starter_is_replaced_without_a_new_build(standing: TritonEnvironment) -> None:
    with pytest.raises(EnvironmentUnusableError, match="is another release's; build it with"):
        standing.verify()
    assert ensure(standing.path) == standing
    standing.verify()
    assert sorted(path.name for path in standing.starter.parent.iterdir()) == ["real", standing.starter.name]


@pytest.mark.parametrize(
    ("stub", "mode", "said"),
    [
        ("echo error while loading shared libraries: libpython >&2", 0o755, "shared libraries: libpython"),
        ("exit 1", 0o644, "can't be run: .*Permission denied"),
    ],
)
def test_a_stub_that_cannot_run_is_said(standing: TritonEnvironment, stub: str, mode: int, said: str) -> None:
    ensure(standing.path)
    standing.stub.write_text(f"#!/bin/sh\n{stub}\n")
    standing.stub.chmod(mode)
    with pytest.raises(EnvironmentUnusableError, match=said):
        standing.verify()
