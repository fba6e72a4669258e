import gc
from functools import partial

import pytest

from exporter.profile import BUCKETS, Latency, buckets_for, interleave


def test_buckets_end_with_the_most_that_the_vertical_takes() -> None:
    assert buckets_for(2000) == BUCKETS
    assert buckets_for(300) == (1, 16, 64, 100, 200, 300)
    assert buckets_for(1) == (1,)


def test_runs_take_turns() -> None:
    order: list[str] = []
    made = interleave({name: partial(order.append, name) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 4
    assert set(made) == {"a", "b"}


def test_a_failing_run_leaves_the_collector_on() -> None:
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: 1 / 0})
    assert gc.isenabled()


def test_latency_is_in_milliseconds() -> None:
    latency = Latency.of([1_000_000] * 99 + [101_000_000])
    assert latency.p50_ms == 1
    assert latency.mean_ms == 2
    assert 1 < latency.p99_ms < 101
