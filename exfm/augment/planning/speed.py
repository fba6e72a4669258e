"""How fast this machine is, by measuring its parts: products, lookups and bytes moved, never annotation itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from exfm.augment.annotate.forward import PIECE, annotate
from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.augment.planning.plan import TeacherSize
from exfm.features.embeddings import Codec

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

    def examples_per_s(self, work: Work, row_bytes: int) -> float:
        """What an example's work amounts to."""
        spent_s = work.flops / self.flops + work.batched_flops / self.batched_flops
        spent_s += work.moved_bytes / self.moved_bytes + work.looked_up * row_bytes / self.looked_up_bytes
        return 1 / spent_s


def size_of(snapshot: Snapshot) -> TeacherSize:
    """A teacher's size; `SnapshotError` if its table lies on disk, whose speed this arithmetic does not know."""
    if snapshot.on_disk:
        raise SnapshotError(f"snapshot {snapshot.name!r} has its table on disk, of which no plan can be made")
    model, work = snapshot.model, work_of(snapshot)
    dense = [each for name, each in model.named_parameters() if not name.startswith("table.")]
    return TeacherSize(
        rows=snapshot.table_schema.rows,
        columns=model.table.dimension + len(snapshot.tasks),
        features=work.looked_up,
        dense_parameters=sum(each.numel() for each in dense),
        dense_flops=work.flops + work.batched_flops,
        weight_bytes=torch.float32.itemsize,
        activation_bytes=work.peak_bytes,
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
    table as large, up to 1 GB.
    """
    each_s = seconds / 4
    wide, square = torch.randn(PIECE, 512), torch.randn(512, 512)
    left, right = torch.randn(PIECE, 16, 32), torch.randn(PIECE, 32, 16)
    table = torch.zeros(min(size.rows, (1 << 30) // (4 * size.columns)), size.columns)
    places = torch.randint(len(table), (PIECE * size.features,))
    with torch.inference_mode():
        return Machine(
            2 * PIECE * 512 * 512 / timed(lambda: wide @ square, each_s),
            2 * PIECE * 16 * 32 * 16 / timed(lambda: torch.bmm(left, right), each_s),
            2 * 4 * left.numel() / timed(lambda: left.transpose(1, 2).contiguous(), each_s),
            4 * len(places) * size.columns / timed(lambda: torch.nn.functional.embedding(places, table), each_s),
        )


def measured_forward(snapshot: Snapshot, codec: Codec, seconds: float = SECONDS) -> float:
    """Examples per second of the forward pass alone, over rows that nobody sent."""
    ids, counters = inputs_of(snapshot, PIECE, 1)
    return PIECE / timed(lambda: annotate(snapshot, ids, counters, codec), seconds)


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
