from pathlib import Path

import numpy as np
import pytest

from exfm.features.signature import PROBABILITY
from loadtest.peers.errors import ModelFolderError
from loadtest.peers.model import Model, find_model
from loadtest.peers.samples import draw_samples, same_schema
from loadtest.peers.servers.scoring import Scoring
from serving.repository import load_catalog


def test_our_server_takes_the_repository_as_a_published_one(naive_model: Model) -> None:
    vertical = load_catalog(naive_model.repository).find(naive_model.vertical)
    assert vertical.version == naive_model.version
    np.testing.assert_array_equal(vertical.golden.probability, naive_model.golden[PROBABILITY])


def test_it_answers_otherwise_than_the_student_for_the_same_requests(student: Model, naive_model: Model) -> None:
    assert same_schema((student, naive_model))
    assert np.abs(student.golden[PROBABILITY] - naive_model.golden[PROBABILITY]).max() > 1e-3
    assert naive_model.manifest["quality"] == {}  # random weights claim nothing


def test_every_feature_of_both_sides_counts(naive_model: Model) -> None:
    (sample,) = draw_samples(naive_model, 5, 1, seed=3)
    scoring = Scoring(naive_model.folder)
    before = np.frombuffer(scoring.score([sample.body()])[0], "<f4")
    for values in sample.tensors.values():
        for column in range(values.shape[1]):
            kept = values[:, column].copy()
            values[:, column] = 12345 if values.dtype == np.int64 else 1e6
            after = np.frombuffer(scoring.score([sample.body()])[0], "<f4")
            values[:, column] = kept
            assert not np.array_equal(before, after)


def test_a_folder_without_a_published_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no published version of any vertical"):
        find_model(tmp_path)
    (tmp_path / "v" / "1").mkdir(parents=True)
    (tmp_path / "v" / "1" / "manifest.json").write_text("{")
    with pytest.raises(ModelFolderError, match=r"v/1"):
        find_model(tmp_path)
