import gc
from functools import partial

import pytest

from exporter.profile import BUCKETS, Latency, Race, buckets_for, interleave


def test_buckets_end_with_the_most_that_the_vertical_takes() -> None:
    assert buckets_for(2048) == BUCKETS
    assert buckets_for(2000) == (1, 16, 64, 100, 200, 500, 1000, 2000)
    assert buckets_for(3000) == (*BUCKETS, 3000)
    assert buckets_for(300) == (1, 16, 64, 100, 200, 300)
    assert buckets_for(1) == (1,)


def test_runs_take_turns() -> None:
    order: list[str] = []
    made = interleave({name: partial(order.append, name) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 4
    assert {name: len(spent) for name, spent in made.spent_ns.items()} == {"a": 3, "b": 3}
    assert set(made.latencies) == {"a", "b"}


def test_ratios_are_of_pairs_so_a_slow_spell_does_not_tilt_them() -> None:
    """The machine is ten times slower for some rounds; `b` always takes nine tenths of what `a` takes beside it."""
    quick, slow = 1_000_000, 10_000_000
    race = Race({"a": [quick, quick, slow, slow, slow], "b": [900_000, 900_000, 9_000_000, 9_000_000, 9_000_000]})
    assert race.ratio("b", "a") == pytest.approx(0.9)
    outlier = Race({"a": [quick] * 5, "b": [900_000] * 4 + [50 * slow]})
    assert outlier.ratio("b", "a") == pytest.approx(0.9)


def test_a_failing_run_leaves_the_collector_on() -> None:
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: 1 / 0})
    assert gc.isenabled()


def test_latency_is_in_milliseconds() -> None:
    latency = Latency.of([1_000_000] * 99 + [101_000_000])
    assert latency.p50_ms == 1
    assert latency.mean_ms == 2
    assert 1 < latency.p99_ms < 101
