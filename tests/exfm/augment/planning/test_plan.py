"""The planner's arithmetic: by hand, and what must hold of any teacher, cluster and traffic."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.augment.planning.plan import Cluster, PlanError, Rates, TeacherSize, Traffic, plan
from exfm.augment.planning.steps import Step, shown

SIZE = TeacherSize(rows=1000, columns=10, features=5, dense_parameters=100, dense_flops=1e6, weight_bytes=4)
WHOLE = st.integers(1, 10**12)
RATE = st.floats(1e-2, 1e15)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    rates = draw(st.one_of(st.none(), st.builds(Rates, RATE, RATE, RATE)))
    feed = draw(st.one_of(st.just(math.inf), RATE))
    made = Cluster(draw(st.integers(1, 4096)), draw(RATE), rates, draw(RATE), feed, draw(st.floats(0, 100)))
    return replace(made, link_bytes_per_s=draw(RATE))


def test_an_example_by_hand() -> None:
    made = plan(SIZE, Cluster(2, 1e6, examples_per_s=100.0, cost_per_hour=3.0), Traffic(50.0, batch=100, linger_s=1.0))
    assert not made.spread
    assert made.bytes_per_device == 1000 * 10 * 4 + 400
    assert made.examples_per_s == 200
    assert made.load == 0.25
    # 50 examples come in the second that one may wait; half a second of it in the mean, half a second of work,
    # and 0.25 / (2 x 0.75) x 50 / 200 s of waiting
    assert made.lag_s == pytest.approx(0.5 + 0.5 + 0.25 / 1.5 * 0.25)
    assert made.catch_up_s == pytest.approx(1200.0)
    assert made.cost_per_hour == 6.0
    assert made.cost_per_million == pytest.approx(6 / 180_000 * 1e6)
    assert made.good


def test_rows_are_spread_only_where_they_must() -> None:
    rates = Rates(flops_per_s=1e9, gather_bytes_per_s=2e5, link_bytes_per_s=1e5)
    large, small = (plan(SIZE, Cluster(4, each, rates), Traffic(1.0)) for each in (1e6, 2e4))
    assert (large.spread, large.rows_per_device, small.spread, small.rows_per_device) == (False, 1000, True, 250)
    assert large.examples_per_s == pytest.approx(4 / (1e-3 + 1e-3))
    assert small.examples_per_s == pytest.approx(4 / (1e-3 + 1e-3 + 200 * 0.75 / 1e5))
    assert small.fits


def test_a_speed_alone_is_no_speed_of_spread_rows() -> None:
    alone = Cluster(4, 2e4, examples_per_s=500.0)
    with pytest.raises(PlanError, match="how fast is the link between them"):
        plan(SIZE, alone, Traffic(1.0))
    made = plan(SIZE, replace(alone, link_bytes_per_s=1e5), Traffic(1.0))
    assert made.examples_per_s == pytest.approx(4 / (1 / 500 + 200 * 0.75 / 1e5))
    assert {"exchange", "speed, exchanging"} < {step.name for step in made.steps}
    copied = plan(SIZE, replace(alone, memory_bytes=1e6, link_bytes_per_s=1e5), Traffic(1.0))
    assert copied.examples_per_s == 2000


def test_too_much_traffic_and_too_little_memory_are_said() -> None:
    made = plan(SIZE, Cluster(2, 1e4, examples_per_s=10.0, link_bytes_per_s=1e12), Traffic(100.0))
    assert not made.fits
    assert made.devices_to_hold == 5  # 8,500 B less 400 hold 202 rows
    assert not made.keeps_up
    assert made.devices_to_keep_up == 11
    assert (made.lag_s, made.catch_up_s, made.good) == (None, None, False)


def test_no_number_of_devices_helps_a_feeder_that_is_too_slow() -> None:
    made = plan(SIZE, Cluster(9, 1e9, examples_per_s=100.0, feed_examples_per_s=50.0), Traffic(60.0))
    assert (made.examples_per_s, made.keeps_up, made.devices_to_keep_up) == (50.0, False, 0)


def test_what_does_not_fit_beside_the_tables_fits_nowhere() -> None:
    size = TeacherSize(rows=1000, columns=10, features=5, dense_parameters=10**6, dense_flops=1e6)
    assert plan(size, Cluster(2, 1e6, examples_per_s=1.0, link_bytes_per_s=1e12), Traffic(0.5)).devices_to_hold == 0


@given(
    size=st.builds(
        TeacherSize, WHOLE, st.integers(1, 4096), st.integers(1, 1000), WHOLE, RATE, st.sampled_from([1, 2, 4])
    ),
    cluster=clusters(),
    traffic=st.builds(Traffic, RATE, st.integers(1, 10**6), RATE),
)
def test_the_answer_agrees_with_itself(size: TeacherSize, cluster: Cluster, traffic: Traffic) -> None:
    made = plan(size, cluster, traffic)
    assert made.keeps_up == (traffic.per_s < made.examples_per_s)
    assert (made.lag_s is None) == (not made.keeps_up)
    assert made.lag_s is None or made.lag_s >= 0
    assert made.rows_per_device * (cluster.devices if made.spread else 1) >= size.rows
    assert made.examples_per_s <= cluster.feed_examples_per_s
    assert all(math.isfinite(step.value) for step in made.steps)
    if made.spread and made.devices_to_hold:
        assert made.fits == (cluster.devices >= made.devices_to_hold)
    if made.keeps_up and not made.spread:
        assert cluster.devices >= made.devices_to_keep_up > 0


@given(cluster=clusters(), per_s=RATE, more=st.floats(1.0, 10.0))
def test_more_traffic_is_never_easier(cluster: Cluster, per_s: float, more: float) -> None:
    less, much = (plan(SIZE, cluster, Traffic(each)) for each in (per_s, per_s * more))
    assert much.load >= less.load
    assert less.keeps_up or not much.keeps_up


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.016e12, "B", "2.016 TB"),
        (12345.6, "examples/s", "12,346 examples/s"),
        (1e-4, "s", "0.0001 s"),
        (3.0, "", "3"),
    ],
)
def test_numbers_are_readable(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text
    assert str(Step("name", "1 x 2", value, unit)).endswith(f"1 x 2 = {text}")
