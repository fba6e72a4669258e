"""A teacher of 10^12 parameters on one disk: trained, used for annotation, and beside itself with a small table."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exfm.data.examples import Examples
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.distill.config import TrainConfig
from exfm.distill.learners import base_rate
from exfm.distill.losses import label_loss
from exfm.distill.metrics import normalized_entropy
from exfm.distill.stream import TeacherStream, encode
from exfm.features.schema import Feature, Schema
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.table import LazyTable, TableForm
from exfm.models.teacher import Teacher

DIMENSION = 16
PARAMETERS = 10**12
SMALL_BUCKETS = 512
CHUNK, BATCH = 4096, 512
Floats = NDArray[np.float32]


@dataclass
class Learner:
    """The teacher over a lazy table; `spent_s` by what it did."""

    teacher: Any
    embedding: LazyEmbedding

    def __post_init__(self) -> None:
        self._dense = torch.optim.Adam(self.teacher.parameters(), lr=1e-3)
        self._shuffle = np.random.default_rng(0)
        self.spent_s = {"learn": 0.0, "annotate": 0.0}

    def annotate(self, rows: NDArray[np.int64], past: Floats) -> Floats:
        """Probabilities [N, tasks]."""
        began_s = time.perf_counter()
        self.teacher.eval()
        with torch.no_grad():
            made: Floats = torch.sigmoid(self.teacher(torch.from_numpy(rows), torch.from_numpy(past))).numpy()
        self.teacher.train()
        self.spent_s["annotate"] += time.perf_counter() - began_s
        return made

    def learn(self, rows: NDArray[np.int64], past: Floats, labels: Floats) -> None:
        """Once, in batches."""
        began_s = time.perf_counter()
        every, counters, target = (torch.from_numpy(each) for each in (rows, past, labels))
        self.teacher.standardizer.update(counters)
        for part in np.array_split(self._shuffle.permutation(len(rows)), max(1, len(rows) // BATCH)):
            index = torch.from_numpy(part)
            loss = label_loss(self.teacher(every[index], counters[index]), target[index])
            self._dense.zero_grad()
            torch.autograd.backward(loss)
            self._dense.step()
            self.embedding.step(len(part))
        self.spent_s["learn"] += time.perf_counter() - began_s


def measure(folder: Path, *, rows: int) -> dict[str, Any]:
    """One pass over a simulated log, each chunk annotated before it is learned.

    Args:
        folder: for the tables; its file system must allow a file of 4.5 TB.
        rows: of the log.

    Returns:
        See the issue's keys: parameters, file sizes in bytes, resident set, examples per second trained and annotated
        (cold: every page of the table's file out of memory first), normalized entropy of the first task.
    """
    source = Source("simulator", *simulate(0, Scale(rows=rows, users=max(200, rows // 25), ads=max(100, rows // 75))))
    stream = TeacherStream.of(source, TrainConfig())
    per_row = DIMENSION + len(stream.tasks)
    ids = sum(feature.kind == "id" for feature in source.schema.ordered)
    large = hashed_into(source.schema, -(-PARAMETERS // (per_row * ids)))
    made = _run(folder / "large", source.examples, large, stream)
    small = _run(folder / "small", source.examples, hashed_into(source.schema, SMALL_BUCKETS), stream)
    return {**made, "ne_small_table": small["ne"], "small_table_parameters": small["parameters"], "rows": rows}


def hashed_into(schema: Schema, buckets: int) -> Schema:
    """The same schema with all ids hashed into so many rows."""

    def resized(feature: Feature) -> Feature:
        return replace(feature, buckets=buckets) if feature.kind == "id" else feature

    return replace(schema, features=tuple(resized(feature) for feature in schema.features))


def _run(folder: Path, examples: Examples, schema: Schema, stream: TeacherStream) -> dict[str, Any]:
    rows = np.concatenate(list(encode(examples, schema).values()), 1)
    form = TableForm(schema.rows, DIMENSION, len(stream.tasks))
    table = LazyTable(folder, form)
    learner = _learner(table, schema, stream)
    made = _pass(learner, rows, stream)
    committed_s = time.perf_counter()
    table.commit()
    committed_s = time.perf_counter() - committed_s
    sizes = {"file_logical_bytes": table.logical_bytes, "file_real_bytes": table.real_bytes}
    table.close()
    return {
        "parameters": form.parameters,
        **sizes,
        "rss_bytes": _rss_bytes(),
        "train_examples_per_s": len(rows) / learner.spent_s["learn"],
        "annotate_examples_per_s": len(rows) / learner.spent_s["annotate"],
        "annotate_cold_examples_per_s": _cold(folder, form, learner, rows[-CHUNK:], stream.counters[-CHUNK:]),
        "commit_s": committed_s,
        "commit_bytes": sum(path.stat().st_size for path in folder.glob("commit-*")),
        "touched_rows": len(np.unique(rows)),
        "ne": normalized_entropy(stream.labels[:, 0][_known(stream)], made[:, 0][_known(stream)]),
    }


def _learner(table: LazyTable, schema: Schema, stream: TeacherStream) -> Learner:
    torch.manual_seed(0)
    teacher: Any = Teacher(hashed_into(schema, 2), stream.tasks, stream.counters.shape[1], dimension=DIMENSION)
    teacher.table = embedding = LazyEmbedding(table, 0.05, 0.05)
    teacher.start_at(base_rate(torch.from_numpy(stream.labels[:CHUNK])))
    return Learner(teacher, embedding)


def _pass(learner: Learner, rows: NDArray[np.int64], stream: TeacherStream) -> Floats:
    parts = []
    for start in range(0, len(rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        parts.append(learner.annotate(rows[chunk], stream.counters[chunk]))
        learner.learn(rows[chunk], stream.counters[chunk], stream.labels[chunk])
    return np.concatenate(parts)


def _cold(folder: Path, form: TableForm, learner: Learner, rows: NDArray[np.int64], past: Floats) -> float:
    """Examples annotated per second by a table that was opened just now, its file out of memory."""
    handle = os.open(folder / "work.rows", os.O_RDWR)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    table = LazyTable(folder, form)
    learner.teacher.table = LazyEmbedding(table, 0.0, 0.0)
    began_s = time.perf_counter()
    learner.annotate(rows, past)
    rate = len(rows) / (time.perf_counter() - began_s)
    table.close()
    return rate


def _known(stream: TeacherStream) -> NDArray[np.bool_]:
    """Rows with the first task's outcome, but the first chunk, before which nothing was learned."""
    known = ~np.isnan(stream.labels[:, 0])
    known[: min(CHUNK, len(known) // 2)] = False
    return known


def _rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/self/status has no VmRSS")
