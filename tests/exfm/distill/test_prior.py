import numpy as np
import pytest

from exfm.distill.prior import PriorLearner


def learned() -> tuple[
    PriorLearner, np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.float32]]
]:
    draw = np.random.default_rng(0)
    ads = draw.choice(np.array([2, 5, 5, 5, 9, 11]), 500)
    labels = (draw.random((500, 2)) < np.array([0.3, 0.05])).astype(np.float32)
    labels[::3, 1] = np.nan
    learner = PriorLearner(np.array([2, 5, 9]), 2)
    for start in range(0, 500, 100):
        learner.learn(ads[start : start + 100], labels[start : start + 100])
    return learner, ads, labels


def test_estimates_sum_to_the_positives_seen() -> None:
    learner, ads, labels = learned()
    made = np.where(np.isnan(labels), 0.0, learner.predict(ads))
    np.testing.assert_allclose(made.sum(0), np.nansum(labels, 0), rtol=1e-5)


def test_an_unknown_ad_gets_the_default_near_the_base_rate() -> None:
    learner, _, labels = learned()
    prior = learner.prior()
    np.testing.assert_array_equal(learner.predict(np.array([777]))[0], prior.default)
    np.testing.assert_allclose(prior.default, np.nanmean(labels, 0), rtol=0.1)


def test_few_impressions_move_an_ad_little() -> None:
    learner = PriorLearner(np.array([1, 2]), 1, strength=20.0)
    learner.learn(np.repeat([1, 2], [200, 2]), np.r_[np.zeros(190), np.ones(12)].astype(np.float32)[:, None])
    few, many = learner.predict(np.array([2, 1]))[:, 0]
    assert many < few < 0.2


def test_before_anything_is_learned_it_says_one_half() -> None:
    learner = PriorLearner(np.array([4]), 1)
    np.testing.assert_array_equal(learner.predict(np.array([4, 5])), [[0.5], [0.5]])


def test_shapes_and_types_are_the_checkpoints() -> None:
    prior = learned()[0].prior()
    assert prior.ad.tolist() == [2, 5, 9]
    assert prior.probability.shape == (3, 2)
    assert prior.probability.dtype == prior.default.dtype == np.float32


def test_an_empty_catalogue_is_possible() -> None:
    learner = PriorLearner(np.empty(0, np.int64), 1)
    learner.learn(np.array([3, 3]), np.array([[1.0], [0.0]], np.float32))
    assert learner.predict(np.array([3])).tolist() == [[pytest.approx(0.5)]]
