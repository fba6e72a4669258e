"""How many threads of this machine want to run now, and how many of them are one's own, in Linux's own books."""

import os
from collections.abc import Iterable
from contextlib import suppress

LOAD = "/proc/loadavg"
_RUNNING = b"R"


class Runnable:
    """Looks at the machine from a process that runs while it looks.

    Args:
        annotator: the process that is no stranger to its workers; all its threads count as own.
    """

    def __init__(self, annotator: int) -> None:
        self._annotator = f"/proc/{annotator}/task"
        self._load = os.open(LOAD, os.O_RDONLY)

    def others(self, workers: Iterable[int]) -> bool:
        """Whether anybody runs, or waits for a processor, but this process, the annotator and its workers.

        Workers compute in their first thread. What is cheap to read is read first: this is asked a thousand times a
        second.
        """
        strangers = self._all() - 1
        if strangers > 0:
            strangers -= sum(_runs(f"/proc/{worker}/stat") for worker in workers)
        if strangers > 0:
            with suppress(OSError):
                strangers -= sum(_runs(f"{self._annotator}/{thread}/stat") for thread in os.listdir(self._annotator))
        return strangers > 0

    def _all(self) -> int:
        # The fourth field, as in "0.20 0.18 0.12 3/80 11206".
        return int(os.pread(self._load, 128, 0).split()[3].partition(b"/")[0])


def _runs(stat: str) -> bool:
    try:
        with open(stat, "rb", buffering=0) as handle:
            line = handle.read(512)
    except OSError:  # it has ended
        return False
    return line[line.rindex(b")") + 2 :][:1] == _RUNNING
