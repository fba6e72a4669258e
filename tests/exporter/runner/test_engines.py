"""What every engine keeps, run as the server runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exfm.features.schema import Schema
from exporter.engines.recipes import RECIPES
from exporter.engines.table import ALL
from exporter.golden import encode_request
from exporter.runner.aside import aside
from exporter.runner.scorer import Scorer
from exporter.trace import ServedStudent
from exporter.verify import torch_probability

_ENDED = """
import faulthandler, gc, signal, sys
from pathlib import Path
from exporter.runner.engine import load_engine, read_engine_file

faulthandler.enable()  # gives the thread a stack for signals, as much else does
folder = Path(sys.argv[1])
first, second = (load_engine(folder, read_engine_file(folder)) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: sys.stdout.write("handled"))
signal.raise_signal(signal.SIGINT)
"""
EXACT = 1e-6
"""What the whole graph may add to a score when it is batched; the others run request by request."""
ROUNDED_TOGETHER = ("onnx_int8",)
"""A request's candidates share the scale by which activations are rounded."""


@pytest.fixture(params=ALL)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def scorer(engine: str, stage: Callable[[str], tuple[Path, Any]], own: Schema) -> Scorer:
    return Scorer(stage(engine)[0], own)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_scores_are_the_same_alone_and_in_any_batch(
    *, engine: str, scorer: Scorer, own: Schema, make_request: Any, sizes: list[int], seed: int
) -> None:
    requests = [make_request(own, size, seed + place) for place, size in enumerate(sizes)]
    together = scorer.score(requests)
    for request, scores in zip(requests, together, strict=True):
        (alone,) = scorer.score([request])
        if RECIPES[engine].split:
            assert np.array_equal(scores.probability, alone.probability)
        np.testing.assert_allclose(scores.probability, alone.probability, atol=EXACT, rtol=0)
        assert scores.unknown == alone.unknown


@pytest.mark.parametrize("size", [1, 2, 63, 500, 777])
def test_scores_are_torchs_at_any_size_within_the_bound(
    *, engine: str, scorer: Scorer, own: Schema, served: ServedStudent, make_request: Any, size: int
) -> None:
    request = make_request(own, size, seed=size)
    exact = torch_probability(served, encode_request(own, request))
    (scores,) = scorer.score([request])
    np.testing.assert_allclose(scores.probability, exact, atol=RECIPES[engine].bound, rtol=0)
    assert scores.probability.dtype == np.float32


def test_an_answer_is_not_overwritten_by_the_next(scorer: Scorer, own: Schema, make_request: Any) -> None:
    (first,) = scorer.score([make_request(own, 9, seed=1)])
    kept = first.probability.copy()
    scorer.score([make_request(own, 9, seed=2)])
    assert np.array_equal(first.probability, kept)


@pytest.mark.parametrize("name", ["onnx", "openvino_bf16"])
def test_a_signal_is_survived_when_engines_have_ended(stage: Callable[[str], tuple[Path, Any]], name: str) -> None:
    command = (sys.executable, "-c", _ENDED, str(stage(name)[0]))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "handled"), ended.stderr


def test_an_engine_loaded_aside_runs_in_the_thread_that_serves(
    engine: str, stage: Callable[[str], tuple[Path, Any]], own: Schema, make_request: Any
) -> None:
    """What it left to a thread of its own would stay behind everybody else for good."""
    made: list[Scorer] = []
    aside(lambda: made.append(Scorer(stage(engine)[0], own)))
    (scorer,), request = made, make_request(own, 500)
    scorer.score([request])
    before, began_ns = _idle_ns(), time.thread_time_ns()
    for _ in range(30):
        scorer.score([request])
    spent = time.thread_time_ns() - began_ns
    assert sum(ran - before.get(thread, 0) for thread, ran in _idle_ns().items()) < 0.1 * spent


def _idle_ns() -> dict[str, int]:
    """Time that each thread left behind by `aside` has run; one that ends meanwhile is left out."""
    ran: dict[str, int] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError, FileNotFoundError):
            if os.sched_getscheduler(int(task.name)) == os.SCHED_IDLE:
                ran[task.name] = int((task / "schedstat").read_text().split()[0])
    return ran


@pytest.mark.parametrize(
    ("engine", "foreign"),
    [
        ("onnx", ("openvino", "torch")),
        ("onnx_rows", ("openvino", "torch")),
        ("openvino_bf16", ("onnxruntime", "torch")),
    ],
)
def test_a_version_runs_alone_and_imports_only_what_its_engine_needs(
    stage: Callable[[str], tuple[Path, Any]], own: Schema, engine: str, foreign: tuple[str, ...], tmp_path: Path
) -> None:
    import json
    import shutil
    import subprocess
    import sys

    import exfm.features

    folder = shutil.copytree(stage(engine)[0], tmp_path / "1")
    shutil.copytree(Path(exfm.features.__path__[0]), folder / "exfm" / "features")
    (folder / "exfm" / "__init__.py").touch()
    (folder / "schema.json").write_text(json.dumps(own.to_dict()), encoding="utf-8")
    script = (
        "import sys; from pathlib import Path; folder = Path(sys.argv[1]); sys.path.insert(0, str(folder))\n"
        "from exfm.features.schema import Schema; from exporter.runner.scorer import Scorer; import exporter\n"
        "Scorer(folder, Schema.load(folder / 'schema.json')); assert str(folder) in exporter.__file__\n"
        f"assert not set(sys.modules) & {set(foreign)!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(folder)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


def test_scores_at_the_most_candidates_depend_on_the_others_as_far_as_is_said(
    *, engine: str, scorer: Scorer, own: Schema, served: ServedStudent, make_request: Any
) -> None:
    """In any order they are the same; of a part of them, too, but where values are rounded by a request's largest."""
    together = engine in ROUNDED_TOGETHER
    most = own.verticals[0].max_candidates
    request = make_request(own, most, seed=5)
    (full,) = scorer.score([request])
    rng = np.random.default_rng(0)
    for size in (most, most // 3, 1):
        part = rng.permutation(most)[:size]
        trimmed = {name: value[part] if name.startswith("candidate") else value for name, value in request.items()}
        (scores,) = scorer.score([trimmed])
        exact = torch_probability(served, encode_request(own, trimmed))
        np.testing.assert_allclose(scores.probability, exact, atol=RECIPES[engine].bound, rtol=0)
        moved = np.abs(scores.probability - full.probability[part]).max()
        assert (moved > EXACT) == (together and size < most)
