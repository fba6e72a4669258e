import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ladder.prior import Prior

ADS = np.array([-5, 3, 9], np.int64)
PROBABILITY = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
DEFAULT = np.array([0.01, 0.02], np.float32)


def test_known_ads_get_their_own_and_others_the_default() -> None:
    found = Prior(ADS, PROBABILITY, DEFAULT).lookup(np.array([9, 4, -5, 9, 100, -100], np.int64))
    np.testing.assert_array_equal(found, [PROBABILITY[2], DEFAULT, PROBABILITY[0], PROBABILITY[2], DEFAULT, DEFAULT])
    assert found.dtype == np.float32


def test_without_known_ads_everything_is_the_default() -> None:
    prior = Prior(np.empty(0, np.int64), np.empty((0, 2), np.float32), DEFAULT)
    np.testing.assert_array_equal(prior.lookup(np.array([1, 2], np.int64)), [DEFAULT, DEFAULT])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_the_lookup_equals_a_dictionary(ads: list[int]) -> None:
    known = dict(zip(ADS.tolist(), PROBABILITY, strict=True))
    found = Prior(ADS, PROBABILITY, DEFAULT).lookup(np.array(ads, np.int64))
    np.testing.assert_array_equal(found, [known.get(ad, DEFAULT) for ad in ads])


@pytest.mark.parametrize(
    ("ads", "probability", "default", "says"),
    [
        (ADS[::-1], PROBABILITY, DEFAULT, "increase"),
        (ADS[[0, 0, 1]], PROBABILITY, DEFAULT, "increase"),
        (ADS, PROBABILITY[:2], DEFAULT, r"\(2, 2\), not \(3, 2\)"),
        (ADS, PROBABILITY * 2, DEFAULT, r"\[0, 1\]"),
        (ADS, PROBABILITY, np.array([0.1, np.nan], np.float32), r"\[0, 1\]"),
    ],
)
def test_a_prior_that_is_none_is_refused(
    ads: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    probability: "np.ndarray[tuple[int, int], np.dtype[np.float32]]",
    default: "np.ndarray[tuple[int], np.dtype[np.float32]]",
    says: str,
) -> None:
    with pytest.raises(ValueError, match=says):
        Prior(ads, probability, default)
