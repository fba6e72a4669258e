import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from exporter.runner.aside import LEAST, aside, yield_to_all

NOBODY = 65534


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
    child = os.fork()
    if not child:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setuid(NOBODY)
            seen: list[int] = []
            aside(lambda: seen.append(os.sched_getscheduler(0)))
            code = 0 if (seen, os.sched_getscheduler(0)) == ([os.SCHED_IDLE], os.SCHED_OTHER) else 2
            yield_to_all()
            code = code or (0 if os.sched_getscheduler(0) == os.SCHED_IDLE else 3)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_everything_needs_is_imported_aside() -> None:
    """The thread that will serve has imported neither numpy nor the scorer: it would take its turn from others."""
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
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert ended.stdout.split() == ["aside", "aside", "aside", "MainThread"]
