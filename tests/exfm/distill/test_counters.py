from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from exfm.data.source import Source
from exfm.distill.counters import CounterError, CounterOptions, counters
from exfm.distill.stream import encode

HOUR_MS = 3_600_000
Make = Callable[..., Source]


def made(
    source: Source, options: CounterOptions, maturity_s: float = 3600.0
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.concatenate(list(encode(source.examples, source.schema).values()), 1)
    return counters(
        source.examples, source.schema, rows, tasks=("click", "buy"), maturity_s=maturity_s, options=options
    )


def logit(rate: float) -> float:
    rate = min(max(rate, 1e-3), 1 - 1e-3)
    return float(np.log(rate / (1 - rate)))


@pytest.mark.parametrize("maturity_s", [0.0, 3600.0])
def test_counters_equal_a_brute_force_count(tiny: Make, maturity_s: float) -> None:
    source = tiny(400)
    made_columns = made(source, CounterOptions(keys=("user*tab",), recency=(), smoothing={"user*tab": 3.0}), maturity_s)
    log, tab = source.examples, source.examples.blocks["context_ids"][:, 0]
    for row in range(0, 400, 7):
        earlier = log.time_ms < log.time_ms[row]
        matured = earlier & (log.time_ms + maturity_s * 1000 <= log.time_ms[row])
        same = matured & (log.user == log.user[row]) & (tab == tab[row])
        for column, task in enumerate(("click", "buy")):
            everyone = log.labels[task][matured]
            everyone = everyone[~np.isnan(everyone)]
            base = (everyone.sum() + 0.5) / (len(everyone) + 1)
            mine = log.labels[task][same]
            mine = mine[~np.isnan(mine)]
            expected = logit((mine.sum() + 3 * base) / (len(mine) + 3)) - logit(base)
            assert made_columns[row, column] == pytest.approx(expected, abs=1e-5)
        assert made_columns[row, 2] == pytest.approx(np.log1p(same.sum()))


def test_outcomes_count_only_once_they_have_matured(tiny: Make) -> None:
    options = CounterOptions(keys=("user", "ad", "topic", "user*topic"), recency=("user", "user*tab"))
    source, row = tiny(600), 300
    flipped = {task: np.where(np.arange(600) >= row, 1 - y, y) for task, y in source.examples.labels.items()}
    other = replace(source, examples=replace(source.examples, labels=flipped))
    differs = np.flatnonzero((made(source, options) != made(other, options)).any(1))
    assert len(differs)
    assert source.examples.time_ms[differs[0]] >= source.examples.time_ms[row] + HOUR_MS


def test_impressions_count_at_once_but_never_themselves(tiny: Make) -> None:
    source = tiny(300)
    columns = made(source, CounterOptions(keys=("user",), recency=("user",)))
    log = source.examples
    for row in range(0, 300, 11):
        earlier = (log.user == log.user[row]) & (log.time_ms < log.time_ms[row])
        assert columns[row, -2] == pytest.approx(np.log1p(earlier.sum()))
        last = log.time_ms[earlier].max(initial=-1)
        since = np.log1p((log.time_ms[row] - last) / 60_000) / 5 if last >= 0 else 3.0
        assert columns[row, -1] == pytest.approx(since, rel=1e-5)


def test_the_last_matured_outcome_is_seen(tiny: Make) -> None:
    source = tiny(300)
    columns = made(source, CounterOptions(keys=("user",), recency=("user",)))
    log = source.examples
    for row in range(0, 300, 11):
        before = np.flatnonzero((log.user == log.user[row]) & (log.time_ms + HOUR_MS <= log.time_ms[row]))
        expected = log.labels["click"][before[-1]] - 0.5 if len(before) else 0.0
        assert columns[row, 3] == expected


def test_rows_at_the_same_instant_do_not_see_each_other(tiny: Make) -> None:
    source = tiny(50)
    together = replace(source, examples=replace(source.examples, time_ms=np.zeros(50, np.int64)))
    columns = made(together, CounterOptions(keys=("user",), recency=()), maturity_s=0.0)
    assert not columns.any()


def test_signals_are_counted_as_means(tiny: Make) -> None:
    source = tiny(200)
    share = source.examples.labels["click"] * 0.5
    watched = replace(source, examples=replace(source.examples, signals={"share": share}))
    columns = made(watched, CounterOptions(keys=("user",), recency=()))
    assert columns.shape == (200, 4)
    assert columns[:, 2].std() > 0


def test_an_unknown_key_is_named(tiny: Make) -> None:
    with pytest.raises(CounterError, match="'user\\*tap': 'tap' is neither"):
        made(tiny(10), CounterOptions(keys=("user*tap",)))
