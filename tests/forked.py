"""What a process does that gives up what it can't get back."""

import os
from collections.abc import Callable

NOBODY = 65534


def in_child(work: Callable[[], bool], *, unprivileged: bool = False) -> None:
    """Assert that `work` says yes in a process of its own, as root without any privilege if so asked."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if unprivileged and os.getuid() == 0:
                os.setgroups([])
                os.setuid(NOBODY)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
