"""The embedding table outside the graph, gathered by numpy; the rest of the model is a dense graph over what it gave.

The graph runs once per request, so a request's scores are the same bits whatever it is batched with, and what is the
request's own is computed once.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Dense(Protocol):
    """The dense graph. Its inputs are buffers of its own, filled in place, which spares a copy.

    Attributes:
        history: where to put a request's history, float32 [1, L * (d + 2)]; None for a graph without.
    """

    history: NDArray[np.float32] | None

    def buffers(self, candidates: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where to put the gathered rows: [1, request features, width] and [candidates, ad features, width]."""
        ...

    def run(self, candidates: int) -> NDArray[np.float32]:
        """Probabilities [candidates, T] of what stands in the buffers of that size."""
        ...


class RowTable:
    """The stacked table, [rows, width] of float16 or float32."""

    def __init__(self, table: NDArray[Any]) -> None:
        # A row as one item: numpy then copies it whole instead of number by number.
        self._items = np.ascontiguousarray(table).view(f"V{table.shape[1] * table.itemsize}").reshape(-1)
        self.dtype, self.width = table.dtype, table.shape[1]

    def gather(self, rows: NDArray[np.int64], into: NDArray[Any]) -> None:
        """Copy the rows [n, F], all of them in range, into [n, F, width]."""
        # "clip" only because "raise" would fill a copy of `into` first.
        self._items.take(rows, out=into.view(self._items.dtype)[..., 0], mode="clip")


class RowsEngine:
    """See `Engine`."""

    def __init__(self, table: RowTable, dense: Dense) -> None:
        self._table, self._dense = table, dense

    def run(
        self,
        request_rows: NDArray[np.int64],
        candidate_rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        history: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        made, start = [], 0
        for place, count in enumerate(counts.tolist()):
            request, candidates = self._dense.buffers(count)
            self._table.gather(request_rows[place : place + 1], request)
            self._table.gather(candidate_rows[start : start + count], candidates)
            if self._dense.history is not None:
                self._dense.history[:] = 0.0 if history is None else history[place : place + 1]
            made.append(self._dense.run(count))
            start += count
        return made[0] if len(made) == 1 else np.concatenate(made)


def open_table(folder: Path) -> RowTable:
    """The version's `rows.npy`, mapped: the model's instances share one copy; every page is touched now, not later."""
    table = np.load(folder / "rows.npy", mmap_mode="r")
    step = max(1, 4096 // (table.shape[1] * table.itemsize))
    table[::step, 0].sum(dtype=np.float64)
    return RowTable(np.asarray(table))


def bucket_sizes(most: int) -> list[int]:
    """Numbers of candidates that graphs of a fixed size are made for: four per doubling, then `most`."""
    sizes = {count << shift for shift in range(most.bit_length()) for count in (1, 4, 5, 6, 7)}
    return sorted({size for size in sizes if size < most and (size >= 4 or size == 1)} | {most})
