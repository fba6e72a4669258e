import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.ladder.order import descending, order


def test_bid_times_first_task_decides() -> None:
    ordered = order(np.array([1.0, 10.0, 2.0]), np.array([[0.5, 0.9], [0.1, 0.0], [0.1, 1.0]], np.float32))
    assert ordered.index.tolist() == [1, 0, 2]
    np.testing.assert_allclose(ordered.expected, [1.0, 0.5, 0.2], rtol=1e-6)


def test_ties_stay_in_the_order_of_the_request() -> None:
    ordered = order(np.zeros(1000), np.full((1000, 1), 0.5, np.float32))
    assert ordered.index.tolist() == list(range(1000))


def test_values_that_differ_in_their_last_bits_are_told_apart() -> None:
    value = np.float64(0.7)
    near = [value]
    for _ in range(40):
        near.append(np.nextafter(near[-1], 1.0))
    shuffled = np.random.default_rng(0).permutation(near)
    assert descending(shuffled).tolist() == np.argsort(-shuffled).tolist()


def test_nothing_is_worth_the_same_with_either_sign() -> None:
    ordered = order(np.array([0.0, -0.0, 1.0, 0.0]), np.array([[0.5], [0.5], [0.0], [-0.0]], np.float32))
    assert ordered.index.tolist() == [0, 1, 2, 3]


@given(st.lists(st.floats(0, allow_nan=False, allow_infinity=False), max_size=80), st.integers(1, 4))
def test_any_values_are_ordered_as_by_a_stable_sort(values: list[float], times: int) -> None:
    array = np.array(values * times, np.float64) + 0.0
    assert descending(array).tolist() == np.argsort(-array, kind="stable").tolist()


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1, width=32)), min_size=1, max_size=50))
def test_it_equals_pythons_own_stable_sort(rows: list[tuple[float, float]]) -> None:
    bids, probability = np.array([bid for bid, _ in rows]), np.array([[p] for _, p in rows], np.float32)
    values = (bids * probability[:, 0]).tolist()
    ordered = order(bids, probability)
    assert ordered.index.tolist() == sorted(range(len(rows)), key=lambda place: -values[place])
    assert np.all(np.diff(ordered.expected) <= 0)
