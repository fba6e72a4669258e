from dataclasses import replace
from pathlib import Path

import numpy as np

from loadtest.peers.known import known_of
from loadtest.peers.model import Model
from loadtest.peers.samples import draw_samples, golden_sample


def test_the_graphs_scores_of_the_golden_request_are_the_golden_ones(student: Model) -> None:
    (known,) = known_of(student, [golden_sample(student)])
    assert known is not None
    np.testing.assert_allclose(known, student.golden["probability"], atol=1e-5)


def test_a_version_without_a_whole_graph_is_known_by_its_first_answers(student: Model, tmp_path: Path) -> None:
    samples = draw_samples(student, 5, 2, seed=0)
    assert known_of(replace(student, folder=tmp_path), samples) == [None, None]
