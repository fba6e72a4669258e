from pathlib import Path

import pytest

from loadtest.peers import environments
from loadtest.peers.environments import STAMP, ensure, environment_of, is_built, versions_in
from loadtest.peers.errors import PeerUnavailableError


def test_other_pins_mean_another_environment(tmp_path: Path) -> None:
    one, two = (environment_of("peer", (pin,), tmp_path) for pin in ("a==1", "a==2"))
    assert one != two
    assert one == environment_of("peer", ("a==1",), tmp_path)


def test_what_cannot_be_installed_says_so_and_is_not_taken_for_built(tmp_path: Path) -> None:
    said: list[str] = []
    pins = (str(tmp_path / "no_such-1-py3-none-any.whl"),)
    with pytest.raises(PeerUnavailableError, match=r"not installable here: .*no_such"):
        ensure("peer", pins, tmp_path, said.append)
    assert said
    assert "peer: installing" in said[0]
    assert not is_built(environment_of("peer", pins, tmp_path))


def test_a_built_environment_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = environment_of("peer", ("a==1",), tmp_path)
    folder.mkdir(parents=True)
    (folder / STAMP).touch()
    monkeypatch.setattr(environments, "_install", pytest.fail)
    assert ensure("peer", ("a==1",), tmp_path, pytest.fail) == folder


def test_versions_are_those_that_lie_there(tmp_path: Path) -> None:
    assert versions_in(tmp_path, ("mosec==0.9.8",)) == {"mosec": "?", "numpy": "?", "onnxruntime": "?"}
