"""Work that must not be felt by whoever serves on the same machine, such as the version that this one will replace."""

import os
import threading
from collections.abc import Callable

LEAST = 19
"""The niceness that yields to all others."""


def aside(work: Callable[[], object]) -> None:
    """Do it in a thread that every other one on the machine goes before, and wait; raises what it raises.

    Linux keeps a policy per thread, and lets none that gave its turn away have it back without a privilege. This
    thread ends with its work, so the one that will serve needs none.
    """
    failed: list[BaseException] = []

    def run() -> None:
        yield_to_all()
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="aside")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def yield_to_all() -> None:
    """Let this thread run only where nothing else would, for good; where the system allows less, as much as that."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.setpriority(os.PRIO_PROCESS, 0, LEAST)
