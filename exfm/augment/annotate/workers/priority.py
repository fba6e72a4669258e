"""How the annotator's processes stay out of everybody else's way."""

import os
from contextlib import suppress
from pathlib import Path

from exfm.augment.annotate.workers.idle_group import join_idle_group

LOWEST = 19
_THREADS = Path("/proc/self/task")
_SESSION = Path("/proc/self/autogroup")


def yield_to_others(own_session: bool = False) -> None:
    """Let this process run only where nobody else wants to: lowest niceness, and the idle class where there is one.

    All its threads, for Linux keeps both per thread, and libraries start some when they are imported. Where the kernel
    shares the processor out among groups or sessions first, neither counts against another one's; so it goes into an
    idle group where it may, and a process that leads its session lowers the session's weight as well.

    Args:
        own_session: begin one; for processes that nobody stops from a terminal.
    """
    join_idle_group()
    if own_session:
        with suppress(OSError):
            if os.getpgrp() == os.getpid():  # a group's leader, as Ray's workers are, can't begin a session
                os.setpgid(0, os.getpgid(os.getppid()))
            os.setsid()
    for thread in [int(path.name) for path in _THREADS.glob("*")] or [0]:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, LOWEST)
        with suppress(OSError, AttributeError):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            _SESSION.write_text(str(LOWEST), encoding="ascii")
