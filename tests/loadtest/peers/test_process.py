"""Whatever a server starts ends with it: daemons in sessions of their own, too, and after `kill -9` of its starter."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from loadtest.peers.guardian import descendants
from loadtest.peers.process import child, clean_environment

BOUND_S = 10.0
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + ".part", "w") as file: file.write(str(os.getpid()))
        os.rename(sys.argv[1] + ".part", sys.argv[1])
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""
STARTER = """
import sys, time
from pathlib import Path
from loadtest.peers.process import child, clean_environment
with child([sys.executable, "-c", sys.argv[1], sys.argv[2]], clean_environment(), Path(sys.argv[3])) as pid:
    time.sleep(600)
"""


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_daemon_in_a_session_of_its_own_ends_with_the_block(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with child([sys.executable, "-c", DAEMON, str(told)], clean_environment(), tmp_path / "log") as pid:
        until(told.exists)
        daemon = int(told.read_text())
        assert lives(pid)
        assert lives(daemon)
    assert not lives(pid)
    assert not lives(daemon)


def test_everything_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = [sys.executable, "-c", STARTER, DAEMON, str(told), str(tmp_path / "log")]
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}) as starter:
        try:
            until(told.exists)
            daemon = int(told.read_text())
            below = descendants(starter.pid)
            assert daemon in below
        finally:
            starter.send_signal(signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in below))


def test_a_server_starts_at_the_usual_priority_whatever_ours_is(tmp_path: Path) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)
    except PermissionError:
        pytest.skip("this user may not raise a priority")
    try:
        with child(
            [sys.executable, "-c", "import time; time.sleep(600)"], clean_environment(), tmp_path / "log"
        ) as pid:
            until(lambda: os.getpriority(os.PRIO_PROCESS, pid) >= 0)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 1)


def test_a_servers_session_comes_behind_ours(tmp_path: Path) -> None:
    own = Path("/proc/self/autogroup")
    if not own.exists() or not own.read_text().strip():
        pytest.skip("this system does not share the processor out among sessions")
    with child([sys.executable, "-c", "import time; time.sleep(600)"], clean_environment(), tmp_path / "log") as pid:
        until(lambda: Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "10")
    assert own.read_text().split()[-1] != "10"


def test_a_session_that_a_server_makes_comes_behind_ours_too(tmp_path: Path) -> None:
    if not Path("/proc/self/autogroup").exists() or not Path("/proc/self/autogroup").read_text().strip():
        pytest.skip("this system does not share the processor out among sessions")
    said = tmp_path / "daemon"
    with child([sys.executable, "-c", DAEMON, str(said)], clean_environment(), tmp_path / "log"):
        until(said.exists)
        group = Path(f"/proc/{said.read_text()}/autogroup")
        until(lambda: group.read_text().split()[-1] == "10")
