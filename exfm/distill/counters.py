"""The teacher's counters: per key, how earlier and already matured impressions went.

A key is "user", "ad" or a feature's name, or several joined by "*": "user*tab". Every value of a row depends on
strictly earlier rows only, and on their outcomes only once `maturity_s` seconds have passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Examples
from exfm.features.schema import Schema

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
NEVER = 3.0
"""Stands for the time since something that has not happened; `_since` gives about this after a month and a half."""


class CounterError(ValueError):
    """A counter's key names nothing that the schema has."""


@dataclass(frozen=True)
class CounterOptions:
    """Which counters a teacher reads.

    Attributes:
        keys: each gives a smoothed rate per task, a smoothed mean per signal, and a count.
        recency: each gives the last matured outcome per task and the time since, and count and time since of
            impressions as such, which need not mature.
        smoothing: by key, how many impressions at the base rate are added; 30 where not given.
    """

    keys: tuple[str, ...] = ("user", "ad")
    recency: tuple[str, ...] = ("user",)
    smoothing: Mapping[str, float] = field(default_factory=lambda: {"user": 4.0, "ad": 10.0})


def counters(
    examples: Examples,
    schema: Schema,
    rows: Ints,
    *,
    tasks: tuple[str, ...],
    maturity_s: float,
    options: CounterOptions,
) -> NDArray[np.float32]:
    """Counter columns float32 [N, C] for time-ordered examples.

    Args:
        examples: N impressions in time order.
        schema: the schema they are encoded with.
        rows: int64 [N, features], the encoded rows in the order of `schema.ordered`.
        tasks: the outcomes to count, names of `examples.labels`.
        maturity_s: seconds after which an impression's outcomes are known.
        options: which counters.

    Raises:
        CounterError: a key has a part that is neither "user", "ad" nor a feature.
    """
    outcomes = _Outcomes.of(examples, tasks)
    matured = _Past(examples.time_ms, round(maturity_s * 1000))
    shown = _Past(examples.time_ms, 0)
    base = outcomes.means(matured.sums(np.zeros(len(examples), np.int64), outcomes.values).totals, None, 1.0)
    columns: list[Doubles] = []
    for key in options.keys:
        window = matured.sums(_codes(key, examples, schema, rows), outcomes.values)
        means = outcomes.means(window.totals, base, options.smoothing.get(key, 30.0))
        columns += [*outcomes.contrast(means, base), np.log1p(window.count)]
    for key in options.recency:
        codes = _codes(key, examples, schema, rows)
        columns += _recency(matured, shown, codes, outcomes, examples.time_ms)
    return np.stack(columns, 1).astype(np.float32)


@dataclass(frozen=True)
class _Outcomes:
    """Labels, then signals, zero where unknown; and after them a 0/1 column each that says where they are known."""

    values: Doubles
    tasks: int

    @classmethod
    def of(cls, examples: Examples, tasks: tuple[str, ...]) -> "_Outcomes":
        labels = [examples.labels[task] for task in tasks]
        raw = np.stack([*labels, *examples.signals.values()], 1).astype(np.float64)
        return cls(np.concatenate([np.nan_to_num(raw), ~np.isnan(raw)], 1), len(tasks))

    def means(self, totals: Doubles, base: Doubles | None, strength: float) -> Doubles:
        """Totals of `values` [N, 2S] -> smoothed means [N, S], towards `base` [N, S] or, without it, towards 1/2."""
        half = totals.shape[1] // 2
        toward = np.full((1, half), 0.5) if base is None else base
        return np.asarray((totals[:, :half] + strength * toward) / (totals[:, half:] + strength))

    def contrast(self, means: Doubles, base: Doubles) -> list[Doubles]:
        """Per task the difference of logits, per signal the difference."""
        logits = [_logit(means[:, i]) - _logit(base[:, i]) for i in range(self.tasks)]
        return logits + [means[:, i] - base[:, i] for i in range(self.tasks, means.shape[1])]


@dataclass(frozen=True)
class _Window:
    """What precedes each row under its key: how many rows, their totals [N, V], the latest one's index or -1."""

    count: Doubles
    totals: Doubles
    latest: Ints


class _Past:
    """Answers what was known of each key at each row's time, given how long an outcome takes to be known."""

    def __init__(self, time_ms: Ints, delay_ms: int) -> None:
        instants, self._instant = np.unique(time_ms, return_inverse=True)
        # A row at the same instant is not an earlier one.
        self._known_before = np.searchsorted(instants, time_ms - max(delay_ms, 1), side="right")
        self._span = len(instants) + 1

    def sums(self, codes: Ints, values: Doubles) -> _Window:
        """Over rows of the same code, in [0, N), that are known by then; values float64 [N, V]."""
        order = np.lexsort((self._instant, codes))
        place = (codes * self._span + self._instant)[order]
        first = np.searchsorted(place, codes * self._span)
        end = np.searchsorted(place, codes * self._span + self._known_before)
        running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[order], 0)])
        latest = np.where(end > first, order[np.maximum(end - 1, 0)], -1)
        return _Window((end - first).astype(np.float64), running[end] - running[first], latest)


def _recency(matured: _Past, shown: _Past, codes: Ints, outcomes: _Outcomes, time_ms: Ints) -> list[Doubles]:
    window = matured.sums(codes, outcomes.values)
    last = outcomes.values[window.latest]
    known = (window.latest >= 0) & (last[:, last.shape[1] // 2] > 0)
    columns = [np.where(known, last[:, task] - 0.5, 0.0) for task in range(outcomes.tasks)]
    impressions = shown.sums(codes, outcomes.values[:, :0])
    columns += [_since(time_ms, window.latest), np.log1p(impressions.count), _since(time_ms, impressions.latest)]
    return columns


def _since(time_ms: Ints, latest: Ints) -> Doubles:
    minutes = np.where(latest >= 0, time_ms - time_ms[latest], 0) / 60_000
    return np.where(latest >= 0, np.log1p(minutes) / 5, NEVER)


def _codes(key: str, examples: Examples, schema: Schema, rows: Ints) -> Ints:
    """The key's value per row as int64 in [0, N)."""
    codes = np.zeros(len(examples), np.int64)
    names = [feature.name for feature in schema.ordered]
    for part in key.split("*"):
        if part in ("user", "ad"):
            values = examples.user if part == "user" else examples.ad
        elif part in names:
            values = rows[:, names.index(part)]
        else:
            raise CounterError(f"counter {key!r}: {part!r} is neither user, ad nor a feature")
        fresh = np.unique(values, return_inverse=True)[1]
        codes = np.unique(codes * (int(fresh.max(initial=0)) + 1) + fresh, return_inverse=True)[1]
    return codes


def _logit(rate: Doubles) -> Doubles:
    kept = np.clip(rate, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(kept) - np.log1p(-kept))
