import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.distill.metrics import normalized_entropy
from exporter.engines.accuracy import compare


def test_equal_probabilities_lose_nothing() -> None:
    p = np.random.default_rng(0).uniform(0.01, 0.99, (50, 2)).astype(np.float32)
    found = compare(p, p)
    assert found.ne_loss == 0
    assert found.max_difference == 0


def test_the_loss_is_what_labels_drawn_from_the_truth_would_show() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.6, 400_000)
    q = np.clip(p + 0.1, 0, 1)
    labels = (rng.random(len(p)) < p).astype(np.float64)
    seen = normalized_entropy(labels, q) / normalized_entropy(labels, p) - 1
    told = compare(q[:, None].astype(np.float32), p[:, None].astype(np.float32))
    assert told.ne_loss == pytest.approx(seen, rel=0.1)
    assert told.max_difference == pytest.approx(0.1, abs=1e-6)


def test_the_worst_task_counts() -> None:
    p = np.full((10, 2), 0.5, np.float32)
    q = p.copy()
    q[:, 1] = 0.4
    assert compare(q, p).ne_loss == pytest.approx(compare(q[:, 1:], p[:, 1:]).ne_loss)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_no_engine_gains_by_being_off(pairs: list[tuple[float, float]]) -> None:
    p, q = np.array(pairs, np.float32).T[..., None]
    assert compare(q, p).ne_loss >= -1e-9


def test_a_number_that_is_none_is_within_no_bound() -> None:
    p = np.full((3, 1), 0.5, np.float32)
    found = compare(np.array([[0.5], [np.nan], [0.5]], np.float32), p)
    assert math.isnan(found.ne_loss)
    assert math.isnan(found.max_difference)
