"""The machine's clock: exact for what has ended and for what still runs."""

import os
import subprocess
import sys
import time

from bench.overload.machine import spent_s

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
TICK_S = 0.02


def test_what_processes_spend_is_counted_whether_they_have_ended_or_not() -> None:
    before_s, began_s = spent_s(), time.monotonic()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    ended_s = spent_s()
    with subprocess.Popen([sys.executable, "-c", f"{BURN}print(flush=True)\ninput()"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running_s, wall_s = spent_s(), time.monotonic() - began_s
        process.communicate(b"\n")
    assert ended_s - before_s > 0.3 - TICK_S
    assert running_s - ended_s > 0.3 - TICK_S
    assert running_s - before_s < wall_s * (os.cpu_count() or 1) + 0.5
