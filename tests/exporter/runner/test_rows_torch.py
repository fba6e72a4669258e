"""The CUDA path with a stand-in for the device: recordings replay on the tensors that they were made with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from exporter.runner import rows_torch
from exporter.runner.rows import RowsEngine, RowTable, bucket_sizes, open_table
from exporter.runner.rows_torch import CudaDense, TorchDense

MOST = 20
FEATURES = (2, 3, 0)


class FakeGraph:
    """What was run while it was recorded, with the inputs' and the output's own memory."""

    recording: "FakeGraph | None" = None
    replays = 0

    def __init__(self) -> None:
        self.steps: list[Callable[[], object]] = []

    def replay(self) -> None:
        FakeGraph.replays += 1
        with torch.inference_mode():
            for step in self.steps:
                step()


def plain(request: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(candidate.float().sum((1, 2)) * request.float().sum())[:, None]


class Program:
    """Counts its calls; under recording it enters itself into the graph, as a device's kernels do."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        made = plain(request, candidate)
        if FakeGraph.recording:
            FakeGraph.recording.steps.append(lambda: made.copy_(plain(request, candidate)))
        return made


class FakeStream:
    def synchronize(self) -> None:
        pass


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def record(graph: FakeGraph) -> Iterator[None]:
        FakeGraph.recording = graph
        yield
        FakeGraph.recording = None

    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self.clone())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)


@pytest.mark.usefixtures("device")
def test_recorded_graphs_score_as_the_program_does_at_any_size() -> None:
    rng = np.random.default_rng(0)
    table = RowTable(rng.normal(size=(50, 4)).astype(np.float16))
    program = Program()
    recorded = RowsEngine(table, CudaDense(program, table, FEATURES, MOST))
    direct = RowsEngine(table, TorchDense(plain, table, FEATURES, MOST))
    sizes = bucket_sizes(MOST)
    assert program.calls == 4 * len(sizes), "three runs before each recording, and the recorded one"
    FakeGraph.replays = 0
    for count in (1, 2, 3, 5, 9, 20, 4, 17):  # up and down: what a larger request left behind must not show
        rows, ads = rng.integers(0, 50, (1, 2)), rng.integers(0, 50, (count, 3))
        counts = np.array([count])
        np.testing.assert_array_equal(recorded.run(rows, ads, counts), direct.run(rows, ads, counts))
    assert FakeGraph.replays == 8
    assert program.calls == 4 * len(sizes), "a recorded size no longer runs the program"


@pytest.mark.usefixtures("device")
def test_more_candidates_than_were_recorded_run_the_program() -> None:
    rng = np.random.default_rng(1)
    table = RowTable(rng.normal(size=(50, 4)).astype(np.float16))
    program = Program()
    recorded = RowsEngine(table, CudaDense(program, table, FEATURES, MOST))
    direct, before = RowsEngine(table, TorchDense(plain, table, FEATURES, MOST)), program.calls
    rows, ads, counts = rng.integers(0, 50, (1, 2)), rng.integers(0, 50, (MOST + 3, 3)), np.array([MOST + 3])
    np.testing.assert_array_equal(recorded.run(rows, ads, counts), direct.run(rows, ads, counts))
    assert program.calls == before + 1


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("gpu", "compiled", "recorded"), [(True, False, 4), (False, False, 0), (True, True, 0)])
def test_an_exported_program_is_recorded_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, compiled: bool, recorded: int
) -> None:
    rng, program = np.random.default_rng(2), Program()
    np.save(tmp_path / "rows.npy", rng.normal(size=(50, 4)).astype(np.float16))
    loaded = SimpleNamespace(module=lambda: SimpleNamespace(cuda=lambda: program, __call__=program))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.export, "load", lambda _: loaded if gpu else SimpleNamespace(module=lambda: program))
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda _: program)
    engine = rows_torch.load(tmp_path, MOST, [2, 3], compiled=compiled)
    assert program.calls == recorded * len(bucket_sizes(MOST))
    rows, ads = rng.integers(0, 50, (1, 2)), rng.integers(0, 50, (5, 3))
    direct = RowsEngine(open_table(tmp_path), TorchDense(plain, open_table(tmp_path), FEATURES, MOST))
    np.testing.assert_array_equal(engine.run(rows, ads, np.array([5])), direct.run(rows, ads, np.array([5])))
