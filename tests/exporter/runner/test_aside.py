import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from exporter.runner.aside import LEAST, another_serves, aside, load, serves, yield_to_all
from tests.forked import in_child


def test_the_work_yields_and_its_caller_does_not() -> None:
    seen: list[tuple[int, str]] = []
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    aside(lambda: seen.append((os.sched_getscheduler(0), threading.current_thread().name)))
    assert seen == [(os.SCHED_IDLE, "aside")]
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


def test_what_it_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 / 0)


def test_where_policies_are_forbidden_it_is_as_nice_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    seen: list[int] = []
    aside(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0)))
    assert seen == [LEAST]
    assert os.getpriority(os.PRIO_PROCESS, 0) != LEAST


def test_it_takes_no_privilege() -> None:
    """As a user without any: a thread that serves is not left where the one that loaded went."""

    def work() -> bool:
        seen: list[int] = []
        aside(lambda: seen.append(os.sched_getscheduler(0)))
        as_before = (seen, os.sched_getscheduler(0)) == ([os.SCHED_IDLE], os.SCHED_OTHER)
        yield_to_all()
        return as_before and os.sched_getscheduler(0) == os.SCHED_IDLE

    in_child(work, unprivileged=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a model with versions 1, 2 and 3, and other things."""
    for name in ("1", "2", "3", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schema.json").touch()
    (tmp_path / "4").mkdir()
    return tmp_path


def _policy(version: Path) -> int:
    seen: list[int] = []
    load(str(version), lambda: seen.append(os.sched_getscheduler(0)))
    return seen[0]


def test_a_version_yields_only_beside_another_that_serves(home: Path) -> None:
    """At a first start, and after a crash, everybody waits for it: on full cores it would not come to an end."""
    assert _policy(home / "2") == os.SCHED_OTHER
    own = serves(str(home / "2"))
    assert _policy(home / "2") == os.SCHED_OTHER, "another instance of the same version"
    assert _policy(home / "3") == os.SCHED_IDLE
    assert _policy(home / "4") == os.SCHED_IDLE
    os.close(own)
    assert _policy(home / "3") == os.SCHED_OTHER
    os.close(serves(str(home / "notes")))


def test_asking_takes_nobody_the_lock(home: Path) -> None:
    first, second = serves(str(home / "1")), serves(str(home / "1"))
    assert another_serves(str(home / "2"))
    os.close(first)
    assert another_serves(str(home / "2")), "the second instance still does"
    os.close(second)
    assert not another_serves(str(home / "2"))


def test_where_files_cannot_be_locked_a_version_loads_at_full_speed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", none)
    os.close(serves(str(home / "1")))
    assert _policy(home / "2") == os.SCHED_OTHER


@pytest.mark.parametrize(("alone", "thread"), [(True, "MainThread"), (False, "aside")])
def test_what_everything_needs_is_imported_aside_of_one_that_serves(home: Path, alone: bool, thread: str) -> None:
    """Then the thread that will serve has imported neither numpy nor the scorer: it would take its turn from others."""
    root = Path(__file__).parents[3]
    for package in ("exporter", "exfm"):
        shutil.copytree(root / package, home / "2" / package, ignore=shutil.ignore_patterns("__pycache__"))
    script = """
import threading, sys
importer = {}
class Spy:
    def find_spec(self, name, *_):
        importer.setdefault(name, threading.current_thread().name)
sys.meta_path.insert(0, Spy())
import exporter.runner.early
print(*(importer[name] for name in ("numpy", "asyncio", "exporter.runner.scorer", "exporter.runner.early")))
"""
    environment = {**os.environ, "PYTHONPATH": str(home / "2"), "PYTHONDONTWRITEBYTECODE": "1"}
    other = None if alone else serves(str(home / "1"))
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=home, env=environment
    )
    if other is not None:
        os.close(other)
    assert ended.stdout.split() == [thread, thread, thread, "MainThread"]


def test_who_only_asks_is_not_taken_for_one_that_serves(home: Path) -> None:
    asking = os.open(home / "1" / "schema.json", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_EX)
    timer = threading.Timer(0.01, os.close, (asking,))
    timer.start()
    assert not another_serves(str(home / "2"))
    timer.join()
    own = serves(str(home / "1"))
    assert another_serves(str(home / "2"))
    os.close(own)
