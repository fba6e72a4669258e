"""Table outside, dense part in torch: compiled for the CPU ahead of time, or a program, which on a GPU is recorded as a
CUDA graph per number of candidates.

The recording needs a GPU and was only ever run against a stand-in for one; everything else is tested as it is.
"""

from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.runner.rows import RowsEngine, RowTable, bucket_sizes, open_table

Program = Callable[..., torch.Tensor]


class TorchDense:
    """See `Dense`, on the CPU; `widths` are the request's and a candidate's features, and the history's columns."""

    def __init__(self, program: Program, table: RowTable, widths: tuple[int, int, int], most: int) -> None:
        self._program = program
        dtype = torch.float16 if table.dtype == np.float16 else torch.float32
        self._request = torch.zeros(1, widths[0], table.width, dtype=dtype)
        self._candidates = torch.zeros(most, widths[1], table.width, dtype=dtype)
        self._history = [torch.zeros(1, widths[2])] if widths[2] else []
        self.history = self._history[0].numpy() if widths[2] else None

    def buffers(self, candidates: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """See `Dense`."""
        if candidates > len(self._candidates):
            self._candidates = self._candidates.new_zeros(candidates, *self._candidates.shape[1:])
        return self._request.numpy(), self._candidates[:candidates].numpy()

    def run(self, candidates: int) -> NDArray[np.float32]:
        """See `Dense`."""
        with torch.inference_mode():
            return self._program(self._request, self._candidates[:candidates], *self._history).numpy()


class CudaDense(TorchDense):
    """See `Dense`: page-locked buffers, copied to the GPU, and one recorded graph per size."""

    def __init__(self, program: Program, table: RowTable, widths: tuple[int, int, int], most: int) -> None:
        super().__init__(program, table, widths, most)
        self._request, self._candidates = self._request.pin_memory(), self._candidates.pin_memory()
        self._history = [part.pin_memory() for part in self._history]
        self.history = self._history[0].numpy() if self._history else None
        self._on_device = self._request.cuda(), self._candidates.cuda()
        self._past_on_device = [part.cuda() for part in self._history]
        self._sizes = bucket_sizes(most)
        self._graphs = {size: self._record(size) for size in reversed(self._sizes)}

    def run(self, candidates: int) -> NDArray[np.float32]:
        """See `Dense`."""
        if candidates > self._sizes[-1]:
            with torch.inference_mode():
                past = [part.cuda() for part in self._history]
                return self._program(self._request.cuda(), self._candidates[:candidates].cuda(), *past).cpu().numpy()
        size = self._sizes[bisect_left(self._sizes, candidates)]
        graph, made = self._graphs[size]
        self._on_device[0].copy_(self._request, non_blocking=True)
        self._on_device[1][:size].copy_(self._candidates[:size], non_blocking=True)
        for there, here in zip(self._past_on_device, self._history, strict=True):
            there.copy_(here, non_blocking=True)
        graph.replay()
        return made[:candidates].cpu().numpy()

    def _record(self, size: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        inputs = self._on_device[0], self._on_device[1][:size], *self._past_on_device
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their kernels now, not while recording
                self._program(*inputs)
        aside.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            made = self._program(*inputs)
        return graph, made


def load(folder: Path, most: int, features: list[int], history: int = 0, compiled: bool = False) -> RowsEngine:
    """The version's engine: `rows.npy`, `dense.pt2`.

    Args:
        folder: the version's.
        most: candidates to make room for.
        features: widths of request and candidate.
        history: columns of the history.
        compiled: whether `dense.pt2` is a package of AOTInductor's, which runs on the CPU, or an exported program.
    """
    table = open_table(folder)
    path, widths = folder / "dense.pt2", (features[0], features[1], history)
    package: Any = torch._inductor.aoti_load_package(str(path)) if compiled else torch.export.load(path)
    program: Any = package if compiled else package.module()
    if torch.cuda.is_available() and not compiled:
        return RowsEngine(table, CudaDense(program.cuda(), table, widths, most))
    torch.set_num_threads(1)
    return RowsEngine(table, TorchDense(program, table, widths, most))
