"""The teacher's counters: per key, how earlier and already matured impressions went.

A key is "user", "ad" or a feature's name, or several joined by "*": "user*tab". Every value of a row depends on
strictly earlier rows only, and on their outcomes only once `maturity_s` seconds have passed.
"""

from collections.abc import Callable, Mapping, Sequence
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
    outcomes = Outcomes.of(examples, tasks)
    matured = _Past(examples.time_ms, round(maturity_s * 1000), outcomes.values)
    shown = _Past(examples.time_ms, 0, outcomes.values[:, :0])

    def look_up(past: _Past) -> LookUp:
        return lambda key: past.sums(_codes(key, examples, schema, rows))

    return assemble(look_up(matured), look_up(shown), examples.time_ms, outcomes.tasks, options)


@dataclass(frozen=True)
class Window:
    """What precedes each of N rows under its key.

    Attributes:
        count: float64 [N], how many rows.
        totals: float64 [N, V], the sum of their values.
        latest_ms: int64 [N], time of the latest one, or -1.
        latest: float64 [N, V], its values; anything where there is none.
    """

    count: Doubles
    totals: Doubles
    latest_ms: Ints
    latest: Doubles


LookUp = Callable[[str], Window]
EVERYTHING = ""
"""The key that all rows share."""


def assemble(matured: LookUp, shown: LookUp, time_ms: Ints, tasks: int, options: CounterOptions) -> NDArray[np.float32]:
    """Counter columns float32 [N, C] out of each key's past, as `counters` describes them.

    Args:
        matured: by key, the past rows whose outcomes are known; also asked for `EVERYTHING`.
        shown: by key, all past rows; their values are not asked for.
        time_ms: int64 [N].
        tasks: how many of the values are labels.
        options: which counters.
    """
    base = means(matured(EVERYTHING).totals, None, 1.0)
    columns: list[Doubles] = []
    for key in options.keys:
        window = matured(key)
        rates = means(window.totals, base, options.smoothing.get(key, 30.0))
        columns += [*_contrast(rates, base, tasks), np.log1p(window.count)]
    for key in options.recency:
        columns += _recency(matured(key), shown(key), time_ms, tasks)
    return np.stack(columns, 1).astype(np.float32)


def width_of(options: CounterOptions, tasks: int, signals: int) -> int:
    """C, how many columns there are."""
    return len(options.keys) * (tasks + signals + 1) + len(options.recency) * (tasks + 3)


@dataclass(frozen=True)
class Outcomes:
    """Labels, then signals, zero where unknown; and after them a 0/1 column each that says where they are known."""

    values: Doubles
    tasks: int

    @classmethod
    def of(cls, examples: Examples, tasks: tuple[str, ...]) -> "Outcomes":
        labels = [examples.labels[task] for task in tasks]
        return cls.of_columns([*labels, *examples.signals.values()], len(tasks))

    @classmethod
    def of_columns(cls, columns: Sequence[NDArray[np.float32]], tasks: int) -> "Outcomes":
        """Of columns [N], the tasks' first; NaN where unknown."""
        raw = np.stack(columns, 1).astype(np.float64)
        return cls(np.concatenate([np.nan_to_num(raw), ~np.isnan(raw)], 1), tasks)


def means(totals: Doubles, base: Doubles | None, strength: float) -> Doubles:
    """Totals of values [N, 2S] -> smoothed means [N, S], towards `base` [N, S] or, without it, towards 1/2."""
    half = totals.shape[1] // 2
    toward = np.full((1, half), 0.5) if base is None else base
    return np.asarray((totals[:, :half] + strength * toward) / (totals[:, half:] + strength))


def _contrast(rates: Doubles, base: Doubles, tasks: int) -> list[Doubles]:
    """Per task the difference of logits, per signal the difference."""
    logits = [_logit(rates[:, i]) - _logit(base[:, i]) for i in range(tasks)]
    return logits + [rates[:, i] - base[:, i] for i in range(tasks, rates.shape[1])]


class _Past:
    """Answers what was known of each key at each row's time, given how long an outcome takes to be known."""

    def __init__(self, time_ms: Ints, delay_ms: int, values: Doubles) -> None:
        instants, self._instant = np.unique(time_ms, return_inverse=True)
        # A row at the same instant is not an earlier one.
        self._known_before = np.searchsorted(instants, time_ms - max(delay_ms, 1), side="right")
        self._span = len(instants) + 1
        self._time_ms, self._values = time_ms, values

    def sums(self, codes: Ints) -> Window:
        """Over rows of the same code, in [0, N), that are known by then."""
        order = np.lexsort((self._instant, codes))
        place = (codes * self._span + self._instant)[order]
        first = np.searchsorted(place, codes * self._span)
        end = np.searchsorted(place, codes * self._span + self._known_before)
        running = np.concatenate([np.zeros((1, self._values.shape[1])), np.cumsum(self._values[order], 0)])
        latest = order[np.maximum(end - 1, 0)]
        return Window(
            (end - first).astype(np.float64),
            running[end] - running[first],
            np.where(end > first, self._time_ms[latest], -1),
            self._values[latest],
        )


def _recency(matured: Window, shown: Window, time_ms: Ints, tasks: int) -> list[Doubles]:
    last = matured.latest
    known = (matured.latest_ms >= 0) & (last[:, last.shape[1] // 2] > 0)
    columns = [np.where(known, last[:, task] - 0.5, 0.0) for task in range(tasks)]
    return [*columns, _since(time_ms, matured.latest_ms), np.log1p(shown.count), _since(time_ms, shown.latest_ms)]


def _since(time_ms: Ints, latest_ms: Ints) -> Doubles:
    minutes = np.where(latest_ms >= 0, time_ms - latest_ms, 0) / 60_000
    return np.where(latest_ms >= 0, np.log1p(minutes) / 5, NEVER)


def _codes(key: str, examples: Examples, schema: Schema, rows: Ints) -> Ints:
    """The key's value per row as int64 in [0, N)."""
    codes = np.zeros(len(examples), np.int64)
    names = [feature.name for feature in schema.ordered]
    for part in key.split("*") if key else ():
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
