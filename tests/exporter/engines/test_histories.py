"""A student with histories: every engine gives torch's answer, with and without events."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.features.history import split_row
from exfm.features.schema import HistorySpec, Schema
from exfm.features.signature import HISTORY
from exporter.engines.candidate import Candidate
from exporter.engines.recipes import RECIPES
from exporter.engines.requests import random_request
from exporter.engines.table import SERVER_PACKAGES, try_engines
from exporter.engines.trial import Trial
from exporter.golden import encode_request
from exporter.runner.scorer import BadRequestError, Scorer
from exporter.trace import ServedStudent
from exporter.verify import torch_probability

ENGINES = ("onnx", "onnx_rows", "openvino_bf16", "openvino_int8", "torch")
"""One of each kind: the others differ from these in the type of the table's numbers alone."""


@pytest.fixture(scope="module")
def past(own: Schema) -> Schema:
    (vertical,) = own.verticals
    return replace(own, verticals=(replace(vertical, max_candidates=40),), history=HistorySpec(6, 8, 1000))


@pytest.fixture(scope="module")
def student(past: Schema, make_checkpoint: Any) -> Any:
    return make_checkpoint(past, past.verticals[0].name, pooling="attention", heads=2)


@pytest.fixture(scope="module")
def torchs(student: Any) -> ServedStudent:
    return ServedStudent(student.build_student()).eval()


@pytest.fixture(scope="module")
def tried(
    student: Any, torchs: ServedStudent, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Trial], dict[str, Candidate]]:
    work = tmp_path_factory.mktemp("histories")
    return try_engines(student, torchs, work, engines=ENGINES, sizes=(1,), server_packages=(*SERVER_PACKAGES, "torch"))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_torchs_answer_with_and_without_a_history(
    name: str, tried: tuple[list[Trial], dict[str, Candidate]], past: Schema, torchs: ServedStudent, make_request: Any
) -> None:
    trials, built = tried
    (trial,) = (each for each in trials if each.engine == name)
    if name not in built and "this processor" in trial.reason:
        pytest.skip(trial.reason)
    scorer = Scorer(built[name].folder, past, built[name].engine)
    full = make_request(past, 40, seed=3)
    empty = {**full, HISTORY: np.zeros_like(full[HISTORY])}
    made = scorer.score([full, empty, full])
    for request, scores in zip((full, empty, full), made, strict=True):
        exact = torch_probability(torchs, encode_request(past, request))
        np.testing.assert_allclose(scores.probability, exact, atol=RECIPES[name].bound, rtol=0)
    assert np.abs(made[0].probability - made[1].probability).max() > 1e-3
    assert trial.max_difference is not None
    assert trial.max_difference <= RECIPES[name].bound


def test_a_history_of_another_width_is_a_bad_request(
    tried: tuple[list[Trial], dict[str, Candidate]], past: Schema, make_request: Any
) -> None:
    scorer = Scorer(tried[1]["onnx"].folder, past, tried[1]["onnx"].engine)
    request = make_request(past, 3, seed=1)
    given = {name: value[None] if name.startswith("candidate") else value for name, value in request.items()}
    assert scorer.check(dict(given))
    with pytest.raises(BadRequestError, match=HISTORY):
        scorer.check({**given, HISTORY: request[HISTORY][:, 1:]})


def test_random_histories_are_of_all_lengths(past: Schema) -> None:
    assert past.history
    made = [split_row(random_request(past, 1, seed)[HISTORY], 6) for seed in range(60)]
    assert {int(each.known.sum()) for each in made} == set(range(7))
    assert all((each.known[0, 1:] >= each.known[0, :-1]).all() for each in made)
    assert not any(each.values[~each.known].any() or each.age_s[~each.known].any() for each in made)


def test_a_checkpoint_keeps_what_its_history_is_made_with(student: Any, tmp_path: Path) -> None:
    from exfm.models.checkpoint import load_checkpoint

    student.save(tmp_path / "student.pt")
    again = load_checkpoint(tmp_path / "student.pt")
    assert again.schema.history == HistorySpec(6, 8, 1000)
    assert again.build_student().history.encoder.pooling == "attention"  # type: ignore[union-attr]
