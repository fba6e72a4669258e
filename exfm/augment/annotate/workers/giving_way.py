"""Workers that give way to everybody else on the machine, by a process that watches them."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

log = logging.getLogger(__name__)
_AGAIN_S = 1.0
_END_S = 5.0


class GivingWay:
    """Has the workers stopped while others run; starts the watching process again where it ends.

    Args:
        quiet_s: how long nobody else must have run before the workers do.
    """

    def __init__(self, quiet_s: float) -> None:
        self._command = ("-m", "exfm.augment.annotate.workers.watch", str(os.getpid()), str(quiet_s * 1000))
        self._workers: tuple[int, ...] = ()
        self._closed = threading.Event()
        self._changing = threading.Lock()
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="exfm-way", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Of the watching process."""
        return self._process.pid

    def watch(self, workers: Sequence[int]) -> None:
        """From now on these are watched, and no others."""
        if tuple(workers) != self._workers:
            with self._changing:
                self._workers = tuple(workers)
                self._say()

    def close(self) -> None:
        """End it; the workers go on."""
        with self._changing:
            self._closed.set()
            self._hang_up()
        self._keeper.join(_END_S)
        if self._keeper.is_alive():  # it is stopped, or gets no processor
            self._process.kill()
            self._keeper.join(_END_S)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, *self._command], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def _say(self) -> None:
        assert self._process.stdin
        with suppress(OSError, ValueError):  # it has ended; the next one is told
            self._process.stdin.write(b"%s\n" % " ".join(map(str, self._workers)).encode())

    def _hang_up(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()

    def _keep(self) -> None:
        while not self._closed.is_set():
            ended = self._process.wait()
            for worker in self._workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)
            self._closed.wait(_AGAIN_S)
            with self._changing:
                if self._closed.is_set():
                    return
                log.warning("who watches for others ended with %d; there will be a new one", ended)
                try:
                    fresh = self._start()
                except OSError as error:
                    log.warning("it does not start: %s", error)
                    continue
                self._hang_up()
                self._process = fresh
                self._say()
