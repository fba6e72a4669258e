"""The annotator's priority, read back from the kernel, threads that were there before included."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
SCRIPT = """
import json, os, sys, threading
from pathlib import Path
from exfm.augment.annotate.workers.priority import yield_to_others

threading.Thread(target=threading.Event().wait, daemon=True).start()
yield_to_others(own_session=sys.argv[1] == "own")
threads = [int(path.name) for path in Path("/proc/self/task").glob("*")]
autogroup = Path("/proc/self/autogroup")
sys.stdout.write(json.dumps({
    "policies": [os.sched_getscheduler(each) for each in threads],
    "nices": [os.getpriority(os.PRIO_PROCESS, each) for each in threads],
    "leads": os.getsid(0) == os.getpid(),
    "session": autogroup.read_text() if autogroup.exists() else "",
}))
"""


def _run(how: str, started: dict[str, Any]) -> Any:
    command = [sys.executable, "-c", SCRIPT, how]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, **started)
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    ("how", "started"),
    [("kept", {}), ("kept", {"start_new_session": True}), ("own", {}), ("own", {"process_group": 0})],
)
def test_every_thread_yields_and_a_leader_its_whole_session(how: str, started: dict[str, Any]) -> None:
    said = _run(how, started)
    assert said["policies"] == [os.SCHED_IDLE] * 2
    assert said["nices"] == [19] * 2
    assert said["leads"] == (how == "own" or "start_new_session" in started)
    if AUTOGROUP.exists():
        assert ("nice 19" in said["session"]) == said["leads"]
