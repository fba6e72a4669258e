"""Counters over a stream equal those over the whole log, however the stream is cut."""

from collections.abc import Callable

import numpy as np
import pytest

from exfm.data.source import Source
from exfm.distill.counters import CounterError, CounterOptions, counters, width_of
from exfm.distill.past import CounterPlan, StreamCounters
from exfm.distill.stream import encode

OPTIONS = CounterOptions(keys=("user", "ad", "user*topic"), recency=("user", "user*tab"))


@pytest.mark.parametrize("fold_ms", [None, 0])
@pytest.mark.parametrize("maturity_s", [0.0, 3600.0, 50_000.0])
@pytest.mark.parametrize("size", [9, 137, 700])
def test_they_equal_the_counters_of_the_whole_log(
    tiny: Callable[..., Source], maturity_s: float, size: int, fold_ms: int | None
) -> None:
    source = tiny(700)
    log = source.examples
    rows = np.concatenate(list(encode(log, source.schema).values()), 1)
    tasks = ("click", "buy")
    expected = counters(log, source.schema, rows, tasks=tasks, maturity_s=maturity_s, options=OPTIONS)
    stream = StreamCounters(source.schema, tasks, 0, CounterPlan(OPTIONS, maturity_s), fold_ms=fold_ms)
    made = []
    for start in range(0, 700, size):
        part = log.slice(start, min(start + size, 700))
        stream.add(part, rows[start : start + size])
        made.append(stream.columns(part, rows[start : start + size]))
    np.testing.assert_allclose(np.concatenate(made), expected, atol=1e-5)
    assert expected.shape[1] == width_of(OPTIONS, 2, 0)


def test_old_facts_are_forgotten(tiny: Callable[..., Source]) -> None:
    source = tiny(400)
    log, plan = source.examples, CounterPlan(CounterOptions(keys=("user",), recency=()), 0.0)
    rows = np.concatenate(list(encode(log, source.schema).values()), 1)
    short = StreamCounters(source.schema, ("click",), 0, plan, keep_ms=3_600_000)
    for start in range(0, 400, 50):
        short.add(log.slice(start, start + 50), rows[start : start + 50])
    last = log.slice(350, 400)
    seen = np.expm1(short.columns(last, rows[350:])[:, -1])
    assert seen.max() < 20  # of some 400 / 40 rows per user plus chance; all of the log would be more for some user
    full = StreamCounters(source.schema, ("click",), 0, plan)
    full.add(log, rows)
    assert np.expm1(full.columns(last, rows[350:])[:, -1]).sum() > seen.sum()


def test_a_key_that_names_nothing_is_refused(tiny: Callable[..., Source]) -> None:
    with pytest.raises(CounterError, match="'nobody'"):
        StreamCounters(tiny(1).schema, ("click",), 0, CounterPlan(CounterOptions(keys=("nobody",)), 0.0))


def test_folded_facts_do_not_grow_with_the_stream(tiny: Callable[..., Source]) -> None:
    source = tiny(2000)
    log, plan = source.examples, CounterPlan(CounterOptions(keys=("user", "ad"), recency=("user",)), 0.0)
    rows = np.concatenate(list(encode(log, source.schema).values()), 1)
    stream = StreamCounters(source.schema, ("click",), 0, plan, keep_ms=None, fold_ms=3_600_000)
    for at in range(0, 2000, 50):
        stream.add(log.slice(at, at + 50), rows[at : at + 50])
    kept = {key: sum(len(each.key) for each in runs) for key, runs in stream.carried().items()}
    recent = 2 * (50 + int((log.time_ms > log.time_ms[-1] - 3_600_000).sum()))
    assert all(count < 3 * (70 + recent) for count in kept.values())
    assert kept[""] < kept["ad"] < 700
