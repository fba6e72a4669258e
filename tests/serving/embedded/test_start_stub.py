"""The program that Triton starts in the stub's place, with a stand-in for the real stub."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from exporter.runner.aside import serves
from serving.embedded.yielding import VARIABLE

STAND_IN = f"""#!{sys.executable} -IS
import fcntl, json, os, sys
folder = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
try:
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    taken = False
except BlockingIOError:
    taken = True
said = {{"idle": os.sched_getscheduler(0) == os.SCHED_IDLE, "absent": os.environ.get("EXFM_STUB_ABSENT")}}
said |= {{"turn": os.environ.get("EXFM_STUB_TURN"), "taken": taken, "rest": sys.argv[2:]}}
print(json.dumps(said))
"""
AT_ONCE = {"idle": False, "absent": None, "turn": None, "taken": False, "rest": ["a b", "c"]}
IN_TURN = AT_ONCE | {"turn": "9", "taken": True}
BEHIND_ALL = IN_TURN | {"idle": True, "absent": "1"}
PRESSURE = "some avg10=%s avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.fixture
def pressure(tmp_path: Path) -> Path:
    """What the kernel would say of waiting for cores."""
    path = tmp_path / "pressure"
    path.write_text(PRESSURE % "3.14")
    return path


@pytest.fixture
def program(tmp_path: Path, pressure: Path) -> Path:
    """As it lies in an environment."""
    folder = tmp_path / "back ends"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "stub").write_text(STAND_IN)
    script = (resources.files("serving.embedded") / "start_stub.sh").read_text(encoding="utf-8")
    assert "</proc/pressure/cpu" in script
    (folder / "stub").write_text(script.replace("</proc/pressure/cpu", f"<'{pressure}'"))
    for path in (folder / "real" / "stub", folder / "stub"):
        path.chmod(0o755)
    return folder / "stub"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a model with versions 1, 2 and 3; the last one's runner can neither yield nor give a turn back."""
    home = tmp_path / "feed click"
    for version in ("1", "2", "3"):
        (home / version / "exporter" / "runner").mkdir(parents=True)
        (home / version / "schema.json").touch()
        if version != "3":
            (home / version / "exporter" / "runner" / "absence.py").touch()
    return home


@contextmanager
def serving(version: Path) -> Iterator[None]:
    handle = serves(str(version))
    try:
        yield
    finally:
        os.close(handle)


def start(program: Path, version: Path, *, may_yield: bool = False) -> dict[str, Any]:
    """What the stand-in says of how it was started."""
    command = (str(program), str(version / "model.py"), "a b", "c")
    variables = os.environ | {VARIABLE: "1" if may_yield else ""}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_without_arguments_the_stub_is_not_started(program: Path) -> None:
    (program.parent / "real" / "stub").write_text("#!/bin/sh\nexit 127\n")
    assert subprocess.run([program], check=False, timeout=30).returncode == 1


@pytest.mark.parametrize("may_yield", [True, False])
def test_beside_nobody_it_starts_at_full_speed(program: Path, home: Path, may_yield: bool) -> None:
    assert start(program, home / "2", may_yield=may_yield) == AT_ONCE
    with serving(home / "2"):
        assert start(program, home / "2", may_yield=may_yield) == AT_ONCE, "another instance of the same version"


def test_beside_another_version_it_yields_and_has_its_turn(program: Path, home: Path) -> None:
    with serving(home / "1"):
        assert start(program, home / "2", may_yield=True) == BEHIND_ALL
        assert start(program, home / "2", may_yield=False) == IN_TURN


@pytest.mark.parametrize(("share", "expected"), [("59.99", BEHIND_ALL), ("60.00", IN_TURN), ("100.00", IN_TURN)])
def test_where_cores_are_wanting_it_does_not_yield(
    program: Path, home: Path, pressure: Path, share: str, expected: dict[str, Any]
) -> None:
    pressure.write_text(PRESSURE % share)
    with serving(home / "1"):
        assert start(program, home / "2", may_yield=True) == expected


def test_where_the_kernel_does_not_tell_it_yields(program: Path, home: Path, pressure: Path) -> None:
    pressure.unlink()
    with serving(home / "1"):
        assert start(program, home / "2", may_yield=True) == BEHIND_ALL


def test_who_only_asks_is_not_taken_for_one_that_serves(program: Path, home: Path) -> None:
    """All instances ask at once, also those of other versions."""
    asking = os.open(home / "1" / "schema.json", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_EX)
    timer = threading.Timer(0.01, os.close, (asking,))
    timer.start()
    assert start(program, home / "2", may_yield=True) == AT_ONCE
    timer.join()


def test_an_older_runner_is_left_as_it_was(program: Path, home: Path) -> None:
    """It would never leave the idle class, and wait for ever for a turn that its own process has."""
    with serving(home / "1"):
        assert start(program, home / "3", may_yield=True) == AT_ONCE


def test_one_starts_after_the_other(program: Path, home: Path) -> None:
    handle = os.open(home / "2", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    command = (str(program), str(home / "2" / "model.py"))
    with serving(home / "1"), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            with pytest.raises(subprocess.TimeoutExpired):
                started.wait(1.0)
            os.close(handle)
            assert json.loads(started.stdout.read())["turn"] == "9"
        finally:
            started.kill()
