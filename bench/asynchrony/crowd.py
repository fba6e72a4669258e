"""`exfm-annotate` flat out: a backlog that it can't finish, and its processes, stopped and continued at will."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.asynchrony.teacher import publish
from bench.asynchrony.throughput import MODEL
from bench.asynchrony.traffic import impressions
from bench.overload.plant import BenchError
from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR, Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.places import Places
from exfm.data.commits import read_commits
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import impression
from exfm.events.log import BEGIN
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog

MADE = 10_000
"""Examples that are made; the backlog repeats them."""
UP_S = 120.0
_POLL_S = 0.05


class Crowd:
    """The annotator with one worker process, at the priority that it gives itself."""

    def __init__(self, folder: Path, examples: int, how: Sequence[str] = ()) -> None:
        """Publish a teacher and lay down a backlog of at least so many examples in `folder`; `how`: more arguments."""
        self._places = Places.under(folder)
        source = Source("simulator", *simulate(0, Scale(rows=MADE)))
        publish(source.schema, self._places.snapshots, **MODEL)
        self._backlog(source, examples)
        self._command = ("-m", "exfm.commands.annotate", "annotate", "--dir", str(folder), "--batch", "4096", *how)
        self._words = folder / "annotate.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _backlog(self, source: Source, examples: int) -> None:
        log, rows = MemoryLog(), impressions(source, source.examples)
        for at in range(0, len(rows), 100):
            log.append(impression.TOPIC, impression.encode(rows[at : at + 100]), 100, str(at).encode())
        joiner = Joiner(log, self._places.join, source.schema, JoinOptions(idle_s=float("inf")))
        while not joiner.step().idle:
            pass
        joiner.close()
        output = SqliteLog(self._places.join)
        made = output.read(example.TOPIC, BEGIN, 1 << 30)
        for _ in range(examples // sum(record.count for record in made)):
            for record in made:
                output.append(example.TOPIC, record.payload, record.count, os.urandom(16))
        output.close()

    def start(self) -> None:
        """Start the annotator, and return when it has annotated its first batch.

        Raises:
            BenchError: it has not in time; where others want the whole processor, it gets none.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, *self._command], stdout=words, stderr=words, start_new_session=True, env=environment
            )
        until_s = time.monotonic() + UP_S
        while not self.annotated():
            if time.monotonic() > until_s or self._process.poll() is not None:
                raise BenchError(f"exfm-annotate did not begin: the machine has no time left, or see {self._words}")
            time.sleep(_POLL_S)

    def halt(self) -> None:
        """Stop all its processes where they are."""
        self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def annotated(self) -> int:
        """Examples so far."""
        return sum(commit.rows for commit in read_commits(self._places.stream)[0])

    def waiting(self) -> int:
        """Examples of the backlog that are left."""
        output = SqliteLog(self._places.join)
        try:
            return output.lag(ANNOTATOR, example.TOPIC).events
        finally:
            output.close()

    def cpu_s(self) -> float:
        """CPU seconds of its processes so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def _signal(self, number: signal.Signals) -> None:
        for each in self._processes():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        assert self._process
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]
