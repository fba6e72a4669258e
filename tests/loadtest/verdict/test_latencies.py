import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.verdict.latencies import Latencies

seconds = st.lists(st.floats(1e-6, 500.0), min_size=1, max_size=300)


@settings(deadline=None, max_examples=10)
@given(seconds)
def test_percentiles_are_right_to_three_digits(values: list[float]) -> None:
    made = Latencies(values)
    assert len(made) == len(values)
    for percent in (50.0, 99.0, 100.0):
        truth = float(np.percentile(values, percent, method="inverted_cdf")) * 1e3
        assert made.percentile_ms(percent) == pytest.approx(truth, rel=2e-3, abs=1.1e-3)


@settings(deadline=None, max_examples=10)
@given(seconds, seconds)
def test_merging_and_encoding_lose_nothing(first: list[float], second: list[float]) -> None:
    merged, whole = Latencies(first), Latencies([*first, *second])
    merged.merge(Latencies(encoded=Latencies(second).encoded()))
    assert len(merged) == len(whole)
    assert (merged.sample_ms() == whole.sample_ms()).all()


def test_the_interval_encloses_the_figure() -> None:
    made = Latencies(np.random.default_rng(0).exponential(0.01, 3000).tolist()).interval_ms(99)
    assert made.low < made.value < made.high
    assert Latencies([0.001]).interval_ms(99).high == float("inf")


def test_a_large_sample_is_thinned_evenly() -> None:
    made = Latencies((np.arange(1, 2001) / 1000).tolist())
    sample = made.sample_ms(most=500)
    assert len(sample) == 500
    assert np.median(sample) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("text", ["zzz", "AAAA", "HISTFAAAAA=="])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HdrHistogram"):
        Latencies(encoded=text)


@pytest.mark.parametrize(("count", "rank"), [(60, 60), (160, 159), (100, 99), (101, 100), (1, 1)])
def test_a_percentile_is_never_one_rank_too_low(count: int, rank: int) -> None:
    made = Latencies((np.arange(1, count + 1) / 100).tolist())
    assert made.percentile_ms(99) == pytest.approx(rank * 10, rel=1e-3)
    assert Latencies().percentile_ms(99) == 0.0
