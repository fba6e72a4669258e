"""Work that must not be felt by whoever serves on the same machine, such as the version that this one will replace."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

LEAST = 19
"""The niceness that yields to all others."""
LOCKED = "schema.json"
"""Of each version: whoever serves it holds a shared lock on this file."""
ASKED_S = 0.05


def load(folder: str, work: Callable[[], object]) -> None:
    """Do what loads a version: aside where another version of the model serves meanwhile, otherwise at full speed.

    On a machine whose cores are all taken, work that yields to all others takes minutes, and Triton's start with it.

    Args:
        folder: the version's.
        work: what is to be done.
    """
    if another_serves(folder):
        aside(work)
    else:
        work()


def serves(folder: str) -> int:
    """Let others see, by a lock, that a version serves; returns the open file, whose end is that of the lock."""
    handle = os.open(os.path.join(folder, LOCKED), os.O_RDONLY)
    with suppress(OSError):  # a file system without locks: its versions always load at full speed
        fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def another_serves(folder: str) -> bool:
    """Whether a process serves another version of the model whose version lies in this folder."""
    home, own = os.path.split(os.path.abspath(folder))
    with suppress(OSError):
        return any(_locked(os.path.join(home, name)) for name in os.listdir(home) if name.isdigit() and name != own)
    return False


def _locked(folder: str) -> bool:
    """Whether it stays so: others that only ask, as here, have the lock for less than `ASKED_S`."""
    try:
        handle = os.open(os.path.join(folder, LOCKED), os.O_RDONLY)
    except OSError:
        return False
    try:
        if _free(handle):
            return False
        time.sleep(ASKED_S)
        return not _free(handle)
    finally:
        os.close(handle)


def _free(handle: int) -> bool:
    """Also where nobody can tell: a file system without locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True


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
