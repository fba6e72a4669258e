import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from exfm.models.checkpoint import Checkpoint
from exporter.engines import table
from exporter.engines.recipes import RECIPES
from exporter.engines.table import ALL, Trial, choose_engine, fastest, timed
from exporter.errors import ExportRefusedError
from exporter.profile import Race
from exporter.trace import ServedStudent, write_graph

TWO = ("onnx", "onnx_rows")
RUNNER = {"exporter", "engine.json"}


MS = 1_000_000


def trial(engine: str, *, accepted: bool = True) -> Trial:
    return Trial(engine, {}, 0.0, 0.0, accepted, "" if accepted else "off")


def winner(*trials: Trial, **times_ms: list[float]) -> str:
    """Whoever serves, given each engine's time per number of candidates: 1 and 300."""
    spent = {
        size: {name: [round(each[place] * MS)] for name, each in times_ms.items()} for place, size in ((0, 1), (1, 300))
    }
    return fastest(timed(trials, {size: Race(each) for size, each in spent.items()})).engine


def test_the_faster_engine_serves() -> None:
    assert winner(trial("onnx"), trial("onnx_rows"), onnx=[1.0, 4.0], onnx_rows=[0.5, 2.0]) == "onnx_rows"


def test_where_speeds_are_equal_the_more_exact_one_serves() -> None:
    both = trial("openvino_bf16"), trial("onnx")
    assert winner(*both, onnx=[1.0, 4.0], openvino_bf16=[0.5, 3.9]) == "onnx"
    assert winner(*both, onnx=[1.0, 4.0], openvino_bf16=[0.5, 3.7]) == "openvino_bf16"


def test_a_slow_spell_does_not_decide() -> None:
    """`onnx_rows` is 2 % faster in every round, which is too little; medians of all rounds would say 5 times."""
    race = Race({"onnx": [100, 100, 500, 500, 500], "onnx_rows": [98, 98, 490, 98, 490]})
    assert fastest(timed([trial("onnx"), trial("onnx_rows")], {300: race})).engine == "onnx"


def test_an_engine_that_is_not_exact_enough_does_not_serve_however_fast() -> None:
    assert winner(trial("onnx"), trial("onnx_int8", accepted=False), onnx=[1, 1], onnx_int8=[0.1, 0.1]) == "onnx"


def test_small_requests_do_not_decide() -> None:
    assert winner(trial("onnx"), trial("onnx_rows"), onnx=[1.0, 2.0], onnx_rows=[9.0, 1.0]) == "onnx_rows"


def test_none_accepted_is_refused_with_every_reason() -> None:
    with pytest.raises(ExportRefusedError, match="none may serve: onnx_int8: off"):
        fastest([trial("onnx_int8", accepted=False)])


def test_only_the_winners_files_are_left(checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path) -> None:
    said: list[str] = []
    shown: list[tuple[str, int, int]] = []

    @contextmanager
    def watch(unit: str, total: int) -> Iterator[Callable[[], object]]:
        done: list[None] = []
        yield lambda: done.append(None)
        shown.append((unit, total, len(done)))

    choice = choose_engine(checkpoint, served, tmp_path, engines=TWO, buckets=(1, 100), report=said.append, watch=watch)
    assert shown == [("engines", 2, 2), ("rounds", 120, 120)]
    files = {"onnx": {"model.onnx"}, "onnx_rows": {"dense.onnx", "rows.npy"}}[choice.engine]
    assert {path.name for path in tmp_path.iterdir()} == files | RUNNER
    assert json.loads((tmp_path / "engine.json").read_text())["engine"] == choice.engine
    assert [each.engine for each in choice.trials] == list(TWO)
    assert all(set(each.profile) == {1, 100} for each in choice.trials)
    assert said == ["building onnx", "building onnx_rows", "timing onnx, onnx_rows"]


def test_the_manifests_table_is_plain(stage: Callable[[str], tuple[Path, Any]]) -> None:
    choice = stage("onnx")[1]
    plain = choice.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["engine"] == plain["profile"]["engine"] == "onnx"
    assert set(plain["profile"]["buckets"]["1"]) == {"p50_ms", "p99_ms", "mean_ms"}
    assert plain["parity"]["max_abs"] <= plain["parity"]["bound"] == 1e-5
    assert [(each["accepted"], each["time_ratio"]) for each in plain["trials"]] == [(True, 1.0)]
    assert plain["choice"]["gain"] == 0.95


@pytest.mark.parametrize("name", ALL)
def test_every_engine_is_within_its_bounds(stage: Callable[[str], tuple[Path, Any]], name: str) -> None:
    choice = stage(name)[1]
    assert choice.parity <= choice.bound <= RECIPES[name].bound
    assert choice.chosen.ne_loss < 2e-4


@pytest.mark.parametrize("name", ["onnx", "onnx_rows", "onnx_int8"])
def test_the_bound_of_a_version_is_that_of_what_was_measured(
    stage: Callable[[str], tuple[Path, Any]], name: str
) -> None:
    folder, choice = stage(name)
    assert choice.bound == min(RECIPES[name].bound, max(2 * choice.parity, 5e-5))
    said = json.loads((folder / "engine.json").read_text())
    assert said["golden_bound"] == (1e-4 if name == "onnx" else 2 * choice.bound)
    assert said["golden_ne_loss"] == 2e-3
    assert choice.to_dict()["parity"]["bound"] == choice.bound


@pytest.mark.parametrize(
    ("name", "measured", "bound"),
    [("onnx", 3e-8, 1e-5), ("onnx_int8", 1.6e-3, 3.2e-3), ("onnx_int8", 2.9e-2, 3e-2), ("onnx_rows", 1e-6, 5e-5)],
)
def test_what_a_kind_of_engine_may_be_off_is_not_what_one_that_is_exact_may(
    name: str, measured: float, bound: float
) -> None:
    assert RECIPES[name].bound_for(measured) == pytest.approx(bound)


def test_an_unknown_engine_is_refused(checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path) -> None:
    with pytest.raises(ExportRefusedError, match="engine: 'onyx' is none of onnx, "):
        choose_engine(checkpoint, served, tmp_path, engines=("onyx",))


def test_an_engine_that_the_server_lacks_is_refused(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path
) -> None:
    with pytest.raises(ExportRefusedError, match="torch: torch is not installed in the server's environment"):
        choose_engine(checkpoint, served, tmp_path, engines=("torch",))
    assert not list(tmp_path.iterdir())


def test_a_processor_without_bfloat16_is_said(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "processor_flags", frozenset)
    with pytest.raises(ExportRefusedError, match="openvino_bf16: this processor has none of avx512_bf16, amx_bf16"):
        choose_engine(checkpoint, served, tmp_path, engines=("openvino_bf16",))


def test_an_engine_asked_for_that_fails_its_bound_is_refused(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(RECIPES, "onnx_rows", replace(RECIPES["onnx_rows"], bound=1e-9))
    with pytest.raises(ExportRefusedError, match=r"onnx_rows: parity: off by .*; the bound is 1e-09"):
        choose_engine(checkpoint, served, tmp_path, engines=("onnx_rows",), buckets=(1,))
    assert not list(tmp_path.iterdir())


def test_a_weight_beyond_float16_rules_out_such_rows(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path
) -> None:
    with torch.no_grad():
        kept = served.student.table.weight[3, 0].clone()
        served.student.table.weight[3, 0] = 1e6
    try:
        choice = choose_engine(checkpoint, served, tmp_path, engines=TWO, buckets=(1,))
    finally:
        with torch.no_grad():
            served.student.table.weight[3, 0] = kept
    assert choice.engine == "onnx"
    assert choice.trials[1].reason == "OverflowError: table.weight holds a value beyond float16"


def test_an_engine_that_breaks_is_left_out(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel for this\nand much more")

    monkeypatch.setattr("exporter.engines.workshop.quantize_dynamic", broken)
    choice = choose_engine(checkpoint, served, tmp_path, engines=("onnx_int8", "onnx"), buckets=(1,))
    assert choice.engine == "onnx"
    assert choice.trials[0].reason == "RuntimeError: no kernel for this"


def test_a_full_disk_is_no_engines_fault(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("exporter.engines.workshop.quantize_dynamic", full)
    with pytest.raises(OSError, match="No space left"):
        choose_engine(checkpoint, served, tmp_path, engines=("onnx_int8", "onnx"), buckets=(1,))


def test_a_graph_with_a_foreign_weight_is_refused_whatever_else_would_run(
    checkpoint: Checkpoint, served: ServedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupt(*args: Any) -> Any:
        graph = write_graph(*args)
        graph.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "auxiliary.weight"))
        return graph

    monkeypatch.setattr("exporter.engines.workshop.write_graph", corrupt)
    with pytest.raises(ExportRefusedError, match=r"auxiliary\.weight"):
        choose_engine(checkpoint, served, tmp_path, engines=TWO, buckets=(1,))
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_make_is_served_by_its_whole_graph(checkpoint: Checkpoint, tmp_path: Path) -> None:
    class Foreign(torch.nn.Module):
        """Scores rows by sums, and has no table that could be taken out."""

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.weights = torch.nn.Embedding(rows, 2)

        def forward(self, request: torch.Tensor, candidate: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
            mine = torch.index_select(self.weights(request).sum(1), 0, owner)
            return torch.sigmoid(mine + self.weights(candidate).sum(1))

    model: Any = Foreign(checkpoint.schema.rows).eval()
    choice = choose_engine(checkpoint, model, tmp_path, engines=TWO, buckets=(1,))
    assert choice.engine == "onnx"
    assert choice.trials[1].reason == "the model does not take gathered rows"
