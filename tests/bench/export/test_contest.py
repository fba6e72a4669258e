from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.export.contest import NAIVE, Entrant, Replicated, engine_rows, entrant, student_ratios
from bench.export.report import checks, table
from bench.export.students import Trained, ne_gap
from exfm.features.schema import Schema
from exporter.engines.table import fastest, timed

ENGINES = ("onnx", "onnx_rows")


@pytest.fixture(scope="module")
def own(tiny_schema: Schema, make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entrant]:
    path = tmp_path_factory.mktemp("contest") / "student.pt"
    make_checkpoint(tiny_schema, "feed_click").save(path)
    with entrant(path, lambda _: None, ENGINES) as made:
        yield made


def test_replicated_requests_get_the_same_scores(own: Entrant) -> None:
    rng = np.random.default_rng(0)
    engine = own.built["onnx"].engine
    request, ads = rng.integers(0, own.schema.rows, (2, 6)), rng.integers(0, own.schema.rows, (5, 3))
    counts = np.array([2, 3])
    once, repeated = engine.run(request, ads, counts), Replicated(engine).run(request, ads, counts)
    np.testing.assert_allclose(repeated, once, atol=1e-6)


def test_every_engine_and_size_has_a_row_against_the_naive_one(own: Entrant) -> None:
    races = own.race((10, 20), rounds=2)
    rows = engine_rows(own.trials, races)
    assert {(row["engine"], row["candidates"]) for row in rows} == {
        (engine, size) for engine in (*ENGINES, NAIVE) for size in (10, 20)
    }
    assert {"engine", "candidates", "p50_ms", "p99_ms", "ratio_naive", "ne_loss"} <= set(rows[0])
    assert all(row["ratio_naive"] == 1 for row in rows if row["engine"] == NAIVE)
    assert fastest(timed(own.trials, races)).engine in ENGINES


def test_students_are_compared_in_turns(own: Entrant) -> None:
    ratios = student_ratios(own, own, "onnx_rows", (10,), rounds=3)
    assert set(ratios) == {"10"}
    assert set(ratios["10"]) == {"ratio", "same_engine", "own_ms", "naive_ms"}
    assert min(ratios["10"].values()) > 0


def test_the_gap_is_a_share_of_the_naive_ne() -> None:
    folder = Path()
    assert ne_gap(Trained(folder, {"a": 0.88}), Trained(folder, {"a": 0.8})) == {"a": pytest.approx(0.1)}


def test_a_missed_promise_is_shown() -> None:
    result = {
        "chosen": "onnx",
        "engines": [
            {
                "engine": "onnx",
                "candidates": 100,
                "p50_ms": 1.0,
                "p99_ms": 2.0,
                "ratio_naive": 0.5,
                "ne_loss": 1e-3,
                "accepted": True,
            }
        ],
        "student_vs_naive": {"200": 0.4, "1000": 0.6, "ne_gap": -0.01},
        "parity_max_abs": 2e-5,
        "parity": {"onnx": 2e-5, "onnx_int8": 2e-3},
        "kill": {"rounds": 5, "bad_versions": 1},
        "reload": {"p99_ratio": 1.0, "failed": 0},
    }
    assert [met for _, met in checks(result)] == [False, True, False, True, False, False, True, False, True]
    assert table(result).count("MISSED") == 5
    assert table({}).count("MISSED") == 0
