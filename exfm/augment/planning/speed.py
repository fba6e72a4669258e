"""How fast this machine is, by measuring its parts: products, lookups and bytes moved, never annotation itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from exfm.augment.annotate.forward import PIECE
from exfm.augment.annotate.snapshots import Snapshot
from exfm.augment.planning.disk import measured_reads
from exfm.augment.planning.plan import Cluster, TeacherSize
from exfm.augment.planning.steps import Step, note, shown
from exfm.models.lazy.embedding import LazyEmbedding
from exfm.models.lazy.form import ReadTable
from exfm.models.lazy.frozen import FrozenTable

BATCHED = ("bmm", "baddbmm")
SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """Of one example's forward pass.

    Attributes:
        flops: in products of matrices.
        batched_flops: in products of many small matrices.
        moved_bytes: read and written by everything else.
        looked_up: rows of the tables.
        peak_bytes: of what one operation reads and writes, at most.
    """

    flops: float
    batched_flops: float
    moved_bytes: float
    looked_up: int
    peak_bytes: int


@dataclass(frozen=True)
class Machine:
    """Per second, of one process with torch's present number of threads."""

    flops: float
    batched_flops: float
    moved_bytes: float
    looked_up_bytes: float

    def computing_s(self, work: Work, steps: list[Step]) -> float:
        """Seconds of all of an example's work but the lookups."""
        parts = (
            ("products", work.flops, self.flops, "FLOP"),
            ("small products", work.batched_flops, self.batched_flops, "FLOP"),
            ("all else", work.moved_bytes, self.moved_bytes, "B"),
        )
        spent_us = [
            note(steps, name, f"{shown(much, unit)} / {shown(rate, f'{unit}/s')}", much / rate * 1e6, "us")
            for name, much, rate, unit in parts
        ]
        return sum(spent_us) / 1e6

    def lookup_s(self, work: Work, row_bytes: int, steps: list[Step]) -> float:
        """Seconds of an example's lookups in memory."""
        spent_s = work.looked_up * row_bytes / self.looked_up_bytes
        formula = f"{work.looked_up} rows x {row_bytes} B / {shown(self.looked_up_bytes, 'B/s')}"
        return note(steps, "lookup", formula, spent_s * 1e6, "us") / 1e6


def speed_here(snapshot: Snapshot, cluster: Cluster, batch: int, seconds: float = SECONDS) -> Cluster:
    """The cluster with the speed of this machine's process, out of that of its parts, as this teacher needs them.

    Args:
        snapshot: the teacher.
        cluster: what its devices have of memory, which decides how much of a table on disk is read from there.
        batch: examples of a forward pass.
        seconds: to measure, about.
    """
    size, work, steps = size_of(snapshot), work_of(snapshot), list[Step]()
    here = machine(size, seconds)
    spent_s = here.computing_s(work, steps)
    if isinstance(table := _on_disk(snapshot), FrozenTable):
        kept = size.kept(cluster.usable_bytes, batch)
        spent_s += measured_reads(table, seconds / 4).lookup_s(size.features, kept, steps)
    else:
        spent_s += here.lookup_s(work, size.columns * size.weight_bytes, steps)
    return replace(cluster, examples_per_s=1 / spent_s, how=tuple(steps))


def _on_disk(snapshot: Snapshot) -> ReadTable | None:
    table = snapshot.model.table
    return table.table if isinstance(table, LazyEmbedding) else None


def size_of(snapshot: Snapshot) -> TeacherSize:
    """A teacher's size."""
    model, work, table = snapshot.model, work_of(snapshot), _on_disk(snapshot)
    dense = [each for name, each in model.named_parameters() if not name.startswith("table.")]
    return TeacherSize(
        rows=snapshot.table_schema.rows,
        columns=model.table.dimension + len(snapshot.tasks),
        features=work.looked_up,
        dense_parameters=sum(each.numel() for each in dense),
        dense_flops=work.flops + work.batched_flops,
        weight_bytes=torch.float32.itemsize,
        activation_bytes=work.peak_bytes,
        disk_bytes=sum(path.stat().st_size for path in table.paths) if isinstance(table, FrozenTable) else 0,
    )


def work_of(snapshot: Snapshot, rows: int = 64) -> Work:
    """Count one forward pass over so many rows of zeros, per row."""
    count = _Count()
    ids, counters = inputs_of(snapshot, rows, 0)
    model = snapshot.model
    with torch.no_grad(), count:  # in inference mode products would not be told apart
        hidden, first_order = model.represent(torch.from_numpy(ids), torch.from_numpy(counters))
        torch.sigmoid(model.predict(hidden, first_order))
        if model.compressor:
            model.compressor(hidden)
    return Work(
        count.flops / rows, count.batched_flops / rows, count.moved_bytes / rows, ids.shape[1], count.peak_bytes // rows
    )


def inputs_of(snapshot: Snapshot, rows: int, seed: int) -> tuple[Any, Any]:
    """Rows that nobody sent: int64 [rows, features] within each feature's range, float32 [rows, counters]."""
    draw = np.random.default_rng(seed)
    sizes = np.array([feature.rows for feature in snapshot.schema.ordered])
    ids = (np.cumsum(sizes) - sizes) + draw.integers(0, sizes, (rows, len(sizes)))
    return ids, draw.normal(size=(rows, snapshot.counters)).astype(np.float32)


def machine(size: TeacherSize, seconds: float = SECONDS) -> Machine:
    """Measure products of [4096, 512] x [512, 512] and of 4096 pairs of [16, 32] x [32, 16], copies, lookups.

    Transposed copies of 8 MB stand for all that lies between products; lookups are of rows like the teacher's in a
    table as large, up to 1 GB; 1 MB if the teacher's lies on disk.
    """
    each_s = seconds / 4
    wide, square = torch.randn(PIECE, 512), torch.randn(512, 512)
    left, right = torch.randn(PIECE, 16, 32), torch.randn(PIECE, 32, 16)
    most = (1 << 20 if size.disk_bytes else 1 << 30) // (4 * size.columns)
    table = torch.zeros(min(size.rows, most), size.columns)
    places = torch.randint(len(table), (PIECE * size.features,))
    with torch.inference_mode():
        return Machine(
            2 * PIECE * 512 * 512 / timed(lambda: wide @ square, each_s),
            2 * PIECE * 16 * 32 * 16 / timed(lambda: torch.bmm(left, right), each_s),
            2 * 4 * left.numel() / timed(lambda: left.transpose(1, 2).contiguous(), each_s),
            4 * len(places) * size.columns / timed(lambda: torch.nn.functional.embedding(places, table), each_s),
        )


def timed(work: Callable[[], Any], seconds: float) -> float:
    """Seconds of some work where nobody else runs: the median processor time per thread over about so many seconds.

    Done at least three times, and once more before that.
    """
    work()
    spent: list[float] = []
    until_s = time.monotonic() + seconds
    while len(spent) < 3 or time.monotonic() < until_s:
        began_s = time.process_time()
        work()
        spent.append(time.process_time() - began_s)
    return max(median(spent) / torch.get_num_threads(), 1e-9)


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.batched_flops = self.moved_bytes = 0.0
        self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=made)
            if packet.__name__ in BATCHED:
                self.batched_flops += flops
            else:
                self.flops += flops
        elif not func.is_view and packet.__name__ != "embedding":
            moved = _bytes(args) + _bytes(made)
            self.moved_bytes += moved
            self.peak_bytes = max(self.peak_bytes, moved)
        return made


def _bytes(given: Any) -> int:
    if isinstance(given, Tensor):
        return given.numel() * given.element_size()
    return sum(map(_bytes, given)) if isinstance(given, list | tuple) else 0
