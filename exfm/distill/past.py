"""Counters over a stream that goes on: the same columns as `exfm.distill.counters`, without reading the past again.

The past of each key lies in a few sorted runs, merged as they grow (O'Neil et al. 1996, LSM trees), with running sums,
so a batch costs a few binary searches per run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Examples
from exfm.distill.counters import EVERYTHING, CounterError, CounterOptions, Outcomes, Window, assemble, width_of
from exfm.features.schema import Schema
from exfm.features.values import seed_of, splitmix64

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Keys = NDArray[np.uint64]
KEEP_MS = 30 * 86_400_000


@dataclass(frozen=True)
class CounterPlan:
    """What the teacher's counters are made of.

    Attributes:
        options: which ones.
        maturity_s: seconds until an impression's outcomes count as known.
    """

    options: CounterOptions
    maturity_s: float


@dataclass(frozen=True)
class Facts:
    """What happened under keys: a row each, or several older rows of one key as one.

    Attributes:
        key: uint64 [N].
        time_ms: int64 [N], of the latest row in it.
        values: float64 [N, V], their sum.
        count: float64 [N], how many rows.
        last: float64 [N, V], the latest row's values.
    """

    key: Keys
    time_ms: Ints
    values: Doubles
    count: Doubles
    last: Doubles

    @classmethod
    def of(cls, key: Keys, time_ms: Ints, values: Doubles) -> "Facts":
        """Of single rows."""
        return cls(key, time_ms, values, np.ones(len(key)), values)

    def take(self, index: NDArray[Any]) -> "Facts":
        """Those at `index`."""
        return Facts(*(column[index] for column in vars(self).values()))

    def and_those(self, others: "Facts") -> "Facts":
        """Both."""
        return Facts(*map(np.concatenate, zip(vars(self).values(), vars(others).values(), strict=True)))

    def since(self, time_ms: int) -> "Facts":
        """Those not older."""
        kept = self.time_ms >= time_ms
        return self if kept.all() else self.take(kept)

    def folded(self, before_ms: int) -> "Facts":
        """Those of a key that are older than that, as one."""
        old = np.flatnonzero(self.time_ms < before_ms)
        if not len(old):
            return self
        sorted_ = self.take(old[np.lexsort((self.time_ms[old], self.key[old]))])
        start = np.unique(sorted_.key, return_index=True)[1]
        ends = sorted_.take(np.append(start[1:], len(old)) - 1)
        sums = np.add.reduceat(sorted_.values, start, axis=0), np.add.reduceat(sorted_.count, start)
        return Facts(ends.key, ends.time_ms, *sums, ends.last).and_those(self.since(before_ms))


class _Run:
    """Facts sorted by key and time, with running sums."""

    def __init__(self, facts: Facts) -> None:
        order = np.lexsort((facts.time_ms, facts.key))
        self.facts = facts.take(order)
        self._keys, self._start = np.unique(self.facts.key, return_index=True)
        self._instants = np.unique(self.facts.time_ms)
        self._span = len(self._instants) + 1
        rank = np.repeat(np.arange(len(self._keys)), np.diff(np.append(self._start, len(order))))
        self._place = rank * self._span + np.searchsorted(self._instants, self.facts.time_ms)
        zero = np.zeros((1, self.facts.values.shape[1]))
        self._running = np.concatenate([zero, np.cumsum(self.facts.values, 0)])
        self._counted = np.concatenate([[0.0], np.cumsum(self.facts.count)])

    def __len__(self) -> int:
        return len(self.facts.key)

    def before(self, key: Keys, time_ms: Ints) -> Window:
        """What lies before a time under a key, for each of N askers."""
        rank = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        first = self._start[rank]
        end = np.searchsorted(self._place, rank * self._span + np.searchsorted(self._instants, time_ms))
        end = np.where(self._keys[rank] == key, end, first)
        latest = np.maximum(end - 1, 0)
        return Window(
            self._counted[end] - self._counted[first],
            self._running[end] - self._running[first],
            np.where(end > first, self.facts.time_ms[latest], -1),
            self.facts.last[latest],
        )


class Past:
    """One kind of key's facts."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, facts: Facts, not_before_ms: int | None = None, fold_ms: int | None = None) -> None:
        """Take more facts; what is merged and older than `not_before_ms` is forgotten, than `fold_ms` folded."""
        if not len(facts.key):
            return
        while self._runs and len(self._runs[-1]) < 2 * len(facts.key):
            old = self._runs.pop().facts
            facts = (old if not_before_ms is None else old.since(not_before_ms)).and_those(facts)
            facts = facts if fold_ms is None else facts.folded(fold_ms)
        self._runs.append(_Run(facts))

    @property
    def facts(self) -> list[Facts]:
        """What is known, run by run."""
        return [run.facts for run in self._runs]

    def put(self, runs: Sequence[Facts]) -> None:
        """Know what another one's `facts` were, and nothing else."""
        self._runs = [_Run(facts) for facts in runs]

    def before(self, key: Keys, time_ms: Ints) -> Window:
        """What lies strictly before a time under a key, for each of N askers."""
        found = self._runs[0].before(key, time_ms)
        for run in self._runs[1:]:
            more = run.before(key, time_ms)
            newer = more.latest_ms >= np.maximum(found.latest_ms, 0)
            found = Window(
                found.count + more.count,
                found.totals + more.totals,
                np.where(newer, more.latest_ms, found.latest_ms),
                np.where(newer[:, None], more.latest, found.latest),
            )
        return found


class StreamCounters:
    """The counters of one teacher, fed with examples in the order of the stream.

    Args:
        schema: the whole schema.
        tasks: the teacher's, a task that the examples lack counts as never known.
        signals: how many further outcomes the teacher's counters expect; rows have their own, in order, or none.
        plan: which counters.
        keep_ms: facts older than that are forgotten; None: none is.
        fold_ms: what had matured that long before the rows that are added becomes one fact per key, so that memory does
            not grow with the stream; a row that comes behind them by more may not see it. None: nothing is folded.
    """

    def __init__(
        self,
        schema: Schema,
        tasks: tuple[str, ...],
        signals: int,
        plan: CounterPlan,
        *,
        keep_ms: int | None = KEEP_MS,
        fold_ms: int | None = None,
    ) -> None:
        self._names = [feature.name for feature in schema.ordered]
        self._tasks, self._signals = tasks, signals
        self._options = plan.options
        self._maturity_ms = max(round(plan.maturity_s * 1000), 1)
        self._keep_ms, self._fold_ms = keep_ms, fold_ms
        self._pasts = {key: Past() for key in (EVERYTHING, *plan.options.keys, *plan.options.recency)}
        for key in self._pasts:
            for part in key.split("*") if key else ():
                if part not in ("user", "ad", *self._names):
                    raise CounterError(f"counter {key!r}: {part!r} is neither user, ad nor a feature")

    def add(self, examples: Examples, rows: Ints) -> None:
        """Let later rows see these; rows int64 [N, features], encoded as the schema orders them."""
        unknown = np.full(len(examples), np.nan, np.float32)
        signals = [*examples.signals.values()][: self._signals]
        columns = [examples.labels.get(task, unknown) for task in self._tasks] + signals
        columns += [unknown] * (self._signals - len(signals))
        values = Outcomes.of_columns(columns, len(self._tasks)).values
        if not len(examples):
            return
        first_ms, last_ms = int(examples.time_ms.min()), int(examples.time_ms.max())
        oldest_ms = None if self._keep_ms is None else last_ms - self._keep_ms
        fold_ms = None if self._fold_ms is None else first_ms - self._maturity_ms - self._fold_ms
        for key, past in self._pasts.items():
            past.add(Facts.of(self._keys(key, examples, rows), examples.time_ms, values), oldest_ms, fold_ms)

    def carried(self) -> dict[str, list[Facts]]:
        """All that later rows may see, by key; in this order `resume` takes it."""
        return {key: past.facts for key, past in self._pasts.items()}

    def resume(self, carried: Mapping[str, Sequence[Facts]]) -> None:
        """Go on with what `carried` gave for the same schema, tasks and plan."""
        for key, past in self._pasts.items():
            past.put(carried[key])

    def columns(self, examples: Examples, rows: Ints) -> NDArray[np.float32]:
        """Counters float32 [N, C] of rows that were added before; each sees what is strictly earlier and matured."""
        if not len(examples):
            return np.empty((0, width_of(self._options, len(self._tasks), self._signals)), np.float32)
        asked = {key: self._keys(key, examples, rows) for key in self._pasts}

        def before(delay_ms: int, key: str) -> Window:
            return self._pasts[key].before(asked[key], examples.time_ms - delay_ms + 1)

        matured, shown = partial(before, self._maturity_ms), partial(before, 1)
        return assemble(matured, shown, examples.time_ms, len(self._tasks), self._options)

    def _keys(self, key: str, examples: Examples, rows: Ints) -> Keys:
        mixed = np.zeros(len(examples), np.uint64)
        for part in key.split("*") if key else ():
            values = {"user": examples.user, "ad": examples.ad}.get(part)
            column = rows[:, self._names.index(part)] if values is None else values
            mixed = splitmix64(mixed ^ np.ascontiguousarray(column).view(np.uint64) ^ seed_of(part))
        return mixed
