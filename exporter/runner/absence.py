"""How an instance comes back whose process was started in the idle class, beside another version.

Whoever starts it so (`serving/embedded/start_stub.sh`) has made sure that it can, and looks for this file first: a
version without it would stay there for good.
"""

import os
from contextlib import suppress

ABSENT = "EXFM_STUB_ABSENT"
"""Set for a process that was started so; any other has the policy that whoever runs it wanted."""


def come_back() -> None:
    """All threads of this process take their turns again, if it was started so.

    Raises:
        PermissionError: the system forbids it; the version must not serve.
    """
    if os.environ.pop(ABSENT, ""):
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))
