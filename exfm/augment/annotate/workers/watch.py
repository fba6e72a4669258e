"""The process that stops the workers while anybody else on the machine runs: `python -m ...workers.watch PID QUIET_MS`.

Its standard input says whom to watch, a line of process ids each time they change. Its end, which is also that of the
annotator, lets all of them go on.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.runnable import Runnable
from exfm.augment.annotate.workers.way import MostlyStopped, Way

LOOK_S = 0.0005
TOLD = """\
exfm-annotate: the workers were stopped for nearly all of the last minute, since others on this machine wanted to run
(another annotator that gives way counts, too); on a machine that serves nobody leave out give_way_ms
"""


class Held:
    """Processes that may be stopped, by handles: an id may be another process's by the time it gets a signal."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._open = ExitStack()
        self._handles: dict[int, int] = {}
        for pid in pids:
            with suppress(ProcessLookupError):
                self._handles[pid] = os.pidfd_open(pid)
                self._open.callback(os.close, self._handles[pid])

    @property
    def pids(self) -> Iterable[int]:
        """Their ids."""
        return self._handles

    def stop(self) -> None:
        """Stop all that are still there."""
        self._send(signal.SIGSTOP)

    def let_go(self) -> None:
        """Let them go on, for good."""
        self.go_on()
        self._open.close()

    def go_on(self) -> None:
        """Let them go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for handle in self._handles.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)


def watch(annotator: int, quiet_s: float, words: int) -> None:
    """Stop and continue who is named on the file descriptor `words`, until that ends."""
    way, machine, workers, held = Way(quiet_s), Runnable(annotator), Held(), MostlyStopped()
    try:
        while True:
            if select.select([words], [], [], LOOK_S if workers.pids else None)[0]:
                heard = os.read(words, 1 << 16)
                if not heard:
                    return
                workers.let_go()
                workers, way = Held(int(each) for each in heard.splitlines()[-1].split()), Way(quiet_s)
            before, now_s = way.runs, time.monotonic()
            if not way.hear(machine.others(workers.pids), now_s):
                workers.stop()  # each time, lest somebody else had them go on
            elif not before:
                workers.go_on()
            if held.hear(way.runs, now_s):
                sys.stderr.write(TOLD)
    finally:
        workers.let_go()


def main() -> None:
    """Watch at the lowest priority: where others take every core, the workers have none either."""
    yield_to_others()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watch(int(sys.argv[1]), float(sys.argv[2]) / 1000, sys.stdin.fileno())


if __name__ == "__main__":
    main()
