"""Whether a process started from here could go into the idle class and come back."""

import os
import shutil
import threading

VARIABLE = "EXFM_STUB_MAY_YIELD"
"""Set for `start_stub.sh` where it could."""
PROGRAMS = ("chrt", "flock", "nice")
"""What `start_stub.sh` runs, of util-linux and coreutils."""


def may_yield() -> bool:
    """Whether the idle class can be left again here, and the programs are there that it takes.

    Linux lets only those back that have `CAP_SYS_NICE`, or a limit of niceness (`RLIMIT_NICE`) of 20 and more.
    """
    return all(shutil.which(program) for program in PROGRAMS) and _comes_back()


def _comes_back() -> bool:
    """Tried by a thread of its own, which ends: the policy is a thread's."""
    back: list[bool] = []

    def go() -> None:
        try:
            for policy in (os.SCHED_IDLE, os.SCHED_OTHER):
                os.sched_setscheduler(0, policy, os.sched_param(0))
            back.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=go, name="may-yield")
    thread.start()
    thread.join()
    return bool(back)
