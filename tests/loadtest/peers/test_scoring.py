import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exfm.features.signature import PROBABILITY
from loadtest.peers.model import Model
from loadtest.peers.samples import draw_samples, golden_sample
from loadtest.peers.servers.scoring import Scoring


@pytest.fixture(scope="module")
def scoring(student: Model) -> Scoring:
    return Scoring(student.folder)


def test_the_published_students_golden_answer_comes_out(student: Model, scoring: Scoring) -> None:
    (answer,) = scoring.score([golden_sample(student).body()])
    found = np.frombuffer(answer, "<f4").reshape(-1, student.tasks)
    np.testing.assert_allclose(found, student.golden[PROBABILITY], atol=1e-5)


def test_requests_joined_are_scored_as_if_each_were_alone(student: Model, scoring: Scoring) -> None:
    bodies = [draw_samples(student, count, 1, seed=count)[0].body() for count in (1, 7, 64, 3)]
    joined = scoring.score(bodies)
    for body, answer in zip(bodies, joined, strict=True):
        alone = np.frombuffer(scoring.score([body])[0], "<f4")
        np.testing.assert_allclose(np.frombuffer(answer, "<f4"), alone, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_scored_or_refused_by_their_length(scoring: Scoring, student: Model, body: bytes) -> None:
    one, two = (len(draw_samples(student, count, 1, seed=0)[0].body()) for count in (1, 2))
    rest = (len(body) - one) % (two - one)
    if len(body) >= one and not rest:
        (answer,) = scoring.score([body])
        assert len(answer) == 4 * student.tasks * (1 + (len(body) - one) // (two - one))
    else:
        with pytest.raises(ValueError, match="is no request"):
            scoring.score([body])
