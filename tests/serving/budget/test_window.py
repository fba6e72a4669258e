import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget.window import Window


def test_old_values_go_but_the_latest_few_stay() -> None:
    window = Window(span_s=2.0, least=3, most=100)
    for second in range(10):
        window.add(float(second), second)
    assert [window.quantile(share) for share in (0.0, 0.5, 1.0)] == [7.0, 8.0, 9.0]


def test_without_values_there_is_no_quantile() -> None:
    window = Window()
    window.add(1.0, 0.0)
    window.clear()
    with pytest.raises(ValueError, match="no values"):
        window.quantile(0.5)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.integers(1, 40), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_quantile_is_that_of_the_latest(values: list[float], most: int, share: float) -> None:
    window = Window(span_s=1e9, least=1, most=most)
    for second, value in enumerate(values):
        window.add(value, second)
    assert len(window) == min(most, len(values))
    assert window.quantile(share) == np.quantile(values[-most:], share, method="inverted_cdf")
