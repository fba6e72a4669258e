from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.export import students
from bench.export.students import code_digest, train_arms
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source


def test_arms_are_trained_once_for_the_same_data_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(_: Source, folder: Path, __: int, arm: str) -> dict[str, float]:
        folder.mkdir(parents=True)
        trained.append(arm)
        return {"feed_click": 0.8 + len(trained) / 100}

    monkeypatch.setattr(students, "_train", train)
    source = Source("simulator", *simulate(0, Scale(rows=300, users=20, ads=20)))
    first = train_arms(source, tmp_path, 0)
    assert train_arms(source, tmp_path, 0) == first
    assert trained == ["own", "naive"]
    assert students.ne_gap(first["own"], first["naive"])["feed_click"] == pytest.approx(0.81 / 0.82 - 1)
    assert train_arms(source, tmp_path, 1) != first
    clicked = {name: np.zeros_like(values) for name, values in source.examples.labels.items()}
    train_arms(replace(source, examples=replace(source.examples, labels=clicked)), tmp_path, 1)
    assert len(trained) == 6
    assert len(list(tmp_path.iterdir())) == 1  # what is out of date is gone


def test_another_line_of_code_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("one = 1\n")
    before = code_digest(tmp_path)
    assert code_digest(tmp_path) == before
    (tmp_path / "module.py").write_text("one = 2\n")
    assert code_digest(tmp_path) != before
