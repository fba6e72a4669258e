"""A join's output to annotate."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import SnapshotError
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.annotate.workers.protocol import Workers
from exfm.augment.join.joiner import Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.store.memory import MemoryStore
from exfm.augment.store.store import EmbeddingStore
from exfm.data.annotated import StreamReader
from exfm.events import impression, outcome
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog

WINDOWS = JoinOptions(windows_s={"click": 60.0, "buy": 60.0}, lateness_s=1.0, idle_s=0.0, batch=40)


class Plant:
    """Everything between a join's output and the stream."""

    def __init__(self, world: Any, snapshots: Any, folder: Path) -> None:
        self.world, self.snapshots, self.folder = world, snapshots, folder
        self.output = SqliteLog(folder / "join.sqlite")
        self.store: EmbeddingStore = MemoryStore()
        self.workers: Workers = InlineWorkers(folder / "snapshots")
        self.options = AnnotateOptions(batch=100, linger_s=0.0, swap_s=0.0)

    def join(self, start: int = 0, stop: int | None = None) -> None:
        """Join some impressions with all outcomes."""
        rows, log = self.world.impressions[start:stop], MemoryLog()
        log.append(outcome.TOPIC, outcome.encode(self.world.outcomes), len(self.world.outcomes), os.urandom(16))
        log.append(impression.TOPIC, impression.encode(rows), len(rows), os.urandom(16))
        joiner = Joiner(log, self.folder / "join.sqlite", self.world.source.schema, WINDOWS, now_ms=lambda: 1 << 50)
        with joiner._state.transaction():
            for each in (impression.TOPIC, outcome.TOPIC, "watermark"):
                joiner._state.move(each, 0)
        while not joiner.step().idle:
            pass
        joiner.close()

    def open(self, **more: Any) -> Annotator:
        made = {"options": self.options, **more}
        return Annotator(self.output, self.folder / "stream", self.store, self.snapshots, self.workers, **made)

    def until_taken_over(self, annotator: Annotator, name: str) -> None:
        """Step until that snapshot, which was just published, annotates."""
        until_s = time.monotonic() + 20
        while annotator.snapshot.name != name:
            assert time.monotonic() < until_s
            with suppress(SnapshotError):
                annotator.step()
            time.sleep(0.002)

    def parts(self) -> list[Any]:
        """What the stream holds."""
        return list(StreamReader(self.folder / "stream").read())

    def drain(self, annotator: Annotator) -> int:
        settled = 0
        while rows := annotator.step():
            settled += rows
        return settled


@pytest.fixture
def plant(world: Callable[..., Any], publish: Callable[..., Any], tmp_path: Path) -> Iterator[Plant]:
    served = world()
    made = Plant(served, publish(served.source), tmp_path)
    yield made
    made.workers.close()
    made.output.close()
