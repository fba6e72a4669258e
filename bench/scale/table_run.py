"""One pass of a teacher with a table on disk over a log, then its published snapshot, with the time that each takes."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.augment.annotate.forward import annotate
from exfm.augment.annotate.snapshots import Snapshots
from exfm.data.source import Source
from exfm.distill.config import load_config
from exfm.distill.lazy import RunTable
from exfm.distill.learners import TeacherLearner
from exfm.distill.metrics import normalized_entropy
from exfm.distill.stream import TeacherStream
from exfm.models.checkpoint import Checkpoint
from exfm.models.lazy.sharded import ShardedTable

DIMENSION = 16
CHUNK, BATCH = 4096, 512
CODEC: Any = "int4"
Floats = NDArray[np.float32]


@dataclass
class Run:
    """A teacher, its table in parts in `folder`, and a log."""

    folder: Path
    source: Source
    buckets: int
    parts: list[str]
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        self.places = [self.folder / part for part in self.parts]
        table = f"lazy:{','.join(map(str, self.places))}?buckets={self.buckets}"
        told = {"teacher": {"table": table, "model": {"dimension": DIMENSION}}}
        config = load_config(self.source.name, None, told)
        self.stream = TeacherStream.of(self.source, config)
        counters = self.stream.counters.shape[1]
        self.learner = TeacherLearner(
            self.source.schema, self.stream.tasks, counters, config.teacher, seed=0, batch=BATCH
        )
        assert self.learner.lazy is not None
        self.lazy: RunTable = self.learner.lazy
        self._made = np.empty_like(self.stream.labels)
        self._spent_s = {"train": 0.0, "annotate": 0.0}
        self._random = torch.get_rng_state()

    def step(self, chunk: slice) -> None:
        """Annotate a chunk, then learn it; what other runs draw at random makes no difference."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            self._spent_s["annotate"] += self._annotate(chunk)
            self._spent_s["train"] += self._learn(chunk)
            self._random = torch.get_rng_state()

    def measured(self) -> dict[str, Any]:
        """All figures after the last step; the table is gone then."""
        rows, table = self.stream.rows, self.lazy.table
        with contextlib.closing(self.learner):
            sizes = {
                "parameters": table.form.parameters,
                "file_logical_bytes": table.logical_bytes,
                "file_real_bytes": table.real_bytes,
                "touched_rows": len(np.unique(rows)),
                "rss_bytes": _rss_bytes("self"),
            }
            if isinstance(table, ShardedTable):
                sizes["parts_rss_bytes"] = sum(_rss_bytes(str(shard.pid)) for shard in table.shards)
            rates = {f"{name}_examples_per_s": len(rows) / spent_s for name, spent_s in self._spent_s.items()}
            ne = self._ne()
            return {**sizes, **rates, **self._publish(), **self._snapshot(), **self._last_chunk(), "ne": ne}

    def _annotate(self, chunk: slice) -> float:
        stream, start = self.stream, max(chunk.start, self.learner.learned)
        made, spent_s = _timed(lambda: self.learner.annotate(start, stream.rows[chunk], stream.counters[chunk]))
        self._made[chunk] = made
        return spent_s

    def _learn(self, chunk: slice) -> float:
        stream = self.stream
        return _timed(lambda: self.learner.learn(stream.rows[chunk], stream.counters[chunk], stream.labels[chunk]))[1]

    def _ne(self) -> float:
        """Of the first task; not of the first chunk, before which nothing was learned."""
        labels = self.stream.labels[:, 0]
        known = ~np.isnan(labels)
        known[: min(self.chunk, len(known) // 2)] = False
        return float(normalized_entropy(labels[known], self._made[known, 0]))

    def _publish(self) -> dict[str, Any]:
        """Commit, keep, and publish, as `exfm-train` and `exfm-annotate publish` do."""
        state, committed_s = _timed(self.learner.state)
        counters = self.stream.counters.shape[1]
        options = {"counters": counters, "dimension": DIMENSION, "table": {"buckets": self.buckets}}
        made = Checkpoint("teacher", self.source.schema, self.stream.tasks, state, options=options)
        _, published_s = _timed(lambda: self._hand_on(made))
        commits = [path for place in self.places for path in place.glob("commit-*")]
        return {
            "commit_s": committed_s,
            "publish_s": published_s,
            "commit_bytes": sum(path.stat().st_size for path in commits),
        }

    def _hand_on(self, made: Checkpoint) -> None:
        out = self.folder / "out"
        self.lazy.hand_on(out, made.table_digest)
        made.save(out / "teacher.pt")
        Snapshots(self.folder / "snapshots").publish(out / "teacher.pt", "bench")

    def _snapshot(self) -> dict[str, float]:
        """What the published snapshot annotates per second: the last chunk, cold and then warm, and all rows."""
        home, stream = self.folder / "snapshots", self.stream
        for path in home.rglob("commit-*"):
            _forget(path)
        snapshot = Snapshots(home).load("bench")
        spans = {"snapshot_cold": self.chunk, "snapshot_warm": self.chunk, "snapshot": len(stream.rows)}
        rates = {}
        for name, size in spans.items():
            rows, past = stream.rows[-size:], stream.counters[-size:]
            spent_s = _timed(lambda: annotate(snapshot, rows, past, CODEC))[1]  # noqa: B023  # called at once
            rates[f"{name}_examples_per_s"] = len(rows) / spent_s
        return rates

    def _last_chunk(self) -> dict[str, float]:
        """The last chunk's rates once more, from a table that was opened just now: cold, then warm."""
        last = slice(max(0, len(self.stream.rows) - self.chunk), len(self.stream.rows))
        rates = {}
        for name, do in (("annotate", self._annotate), ("train", self._learn)):
            self.lazy.reopen()
            for place in self.places:
                _forget(place / "work.rows")
            for heat in ("cold", "warm"):
                rates[f"{name}_{heat}_examples_per_s"] = (last.stop - last.start) / do(last)
        return rates


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    began_s = time.perf_counter()
    made = do()
    return made, time.perf_counter() - began_s


def _forget(path: Path) -> None:
    """Let no page of a file be in memory; nobody may have mapped any."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """As `exfm-train` and a worker of `exfm-annotate` have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rss_bytes(process: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{process}/status has no VmRSS")
