import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.distill.metrics import auc, calibration, entropy, log_loss, measure, normalized_entropy


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=40))
def test_auc_is_the_share_of_ordered_pairs_with_ties_as_half(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([float(y) for y, _ in rows]), np.array([p / 5 for _, p in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels > 0] for b in scores[labels == 0]]
    if pairs:
        assert auc(labels, scores) == pytest.approx(float(np.mean(pairs)))
    else:
        assert math.isnan(auc(labels, scores))


def test_normalized_entropy_of_the_base_rate_is_one() -> None:
    labels = np.array([1.0, 0, 0, 0, 1])
    assert normalized_entropy(labels, np.full(5, 0.4)) == pytest.approx(1.0)


def test_log_loss_and_entropy() -> None:
    assert log_loss(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-math.log(1e-6))
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(0.0) == entropy(1.0) == 0.0


def test_calibration_above_one_promises_too_much() -> None:
    assert calibration(np.array([1.0, 0.0]), np.array([0.8, 0.7])) == pytest.approx(1.5)


def test_measure_leaves_out_rows_without_a_label() -> None:
    labels, made = np.array([1.0, np.nan, 0.0, 1.0]), np.array([0.9, 0.0, 0.2, 0.7])
    assert measure(labels, made) == measure(labels[[0, 2, 3]], made[[0, 2, 3]])
    assert measure(labels, made).rows == 3


@pytest.mark.parametrize("labels", [[], [0.0, 0.0], [1.0, 1.0]])
def test_undefined_figures_are_nan(labels: list[float]) -> None:
    made = measure(np.array(labels), np.full(len(labels), 0.5))
    assert math.isnan(made.auc)
    assert math.isnan(made.ne)
