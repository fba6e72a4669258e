"""What each row of a log sees of its user's past embeddings: what the online store would have given, for all rows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exfm.features.encoding import MISSING
from exfm.features.history import History, inputs_of, latest, row_of
from exfm.features.schema import HistorySpec

Ints = NDArray[np.int64]


class Histories:
    """Of N rows of a log that are also the events of each other's histories.

    Args:
        events: row i is event i; those of space 0 have no embedding and don't count, as in the online store.
            Nor do those of other spaces than the spec's, as in the frontend.
        user: int64 [N], `MISSING` for nobody, who has no history.
        time_ms: int64 [N], when each row was asked for.
        spec: how long a history is, and how late.
        skip: the first rows are only events; the rows that are asked for are counted from behind them.
    """

    def __init__(self, events: History, user: Ints, time_ms: Ints, spec: HistorySpec, skip: int = 0) -> None:
        self.spec, self._time_ms = spec, time_ms[skip:]
        owner = np.unique(user, return_inverse=True)[1].astype(np.int64)
        owner[user == MISSING] = -1
        order = np.lexsort((events.event, events.time_ms, owner))
        counted = events.space != 0
        if spec.spaces:
            counted &= np.isin(events.space, np.array(spec.spaces, np.uint32))
        order = order[(owner[order] >= 0) & counted[order]]
        self._events = events.take(order)
        self._row = np.append(order, -1)  # so that place -1 is row -1
        how = {"delay_ms": spec.delay_ms, "length": spec.length}
        seen = latest(owner[order], events.time_ms[order], owner[skip:], time_ms[skip:], **how)
        self._index = seen.astype(np.int32)

    def rows(self, index: Ints) -> NDArray[np.float32]:
        """The served model's tensor `request_history` for some of the rows, float32 [n, L * (d + 2)]."""
        return row_of(inputs_of(self._events, self._index[index].astype(np.int64), self._time_ms[index]))

    def seen(self, index: Ints) -> Ints:
        """Which rows of the log those events are, int64 [n, L], oldest first; -1 in front where there are fewer."""
        found: Ints = self._row[self._index[index]]
        return found

    @property
    def known_share(self) -> float:
        """The share of rows that see at least one event."""
        return float((self._index[:, -1] >= 0).mean()) if len(self._index) else 0.0


class Remembered:
    """The events that rows yet to come may see, so that a stream's histories can be made window by window.

    Kept are, per user, the events of the last `2 * delay_ms` and the `length` before them. A row that comes later than
    `delay_ms` behind the newest one may find fewer; never one that it must not see.
    """

    def __init__(self, spec: HistorySpec, events: History, user: Ints) -> None:
        """`spec` as of `Histories`; `events`, N of them, of `user` int64 [N]."""
        self.spec, self.events, self.user = spec, events, user

    def histories(self, events: History, user: Ints) -> Histories:
        """Of a window's rows, which are remembered from now on; arguments as of `Histories`."""
        skip = len(self.user)
        every, owner = joined([self.events, events]), np.concatenate([self.user, user])
        fresh = {int(space) for space in np.unique(events.space) if space}
        self.spec = replace(self.spec, spaces=tuple(sorted({*self.spec.spaces, *fresh})))
        made = Histories(every, owner, every.time_ms, self.spec, skip)
        kept = self._kept(every, owner)
        self.events, self.user = every.take(kept), owner[kept]
        return made

    def _kept(self, events: History, user: Ints) -> Ints:
        order: Ints = np.lexsort((events.event, events.time_ms, user))
        order = order[(user[order] != MISSING) & (events.space[order] != 0)]
        if not len(order):
            return order
        recent = events.time_ms[order] >= events.time_ms[order].max() - 2 * self.spec.delay_ms
        # Counted from the first recent event of the same user, or from its end, how far back each one lies.
        ends = np.flatnonzero(np.append(user[order][1:] != user[order][:-1], True))
        mine = np.searchsorted(ends, np.arange(len(order)))
        old = np.concatenate([[0], np.cumsum(~recent)])
        back = old[ends[mine] + 1] - old[:-1]
        kept: Ints = order[recent | (back <= self.spec.length)]
        return kept


def joined(parts: Sequence[History]) -> History:
    """The events of several parts of a log, one after the other."""
    time_ms, event, space, codes = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("time_ms", "event", "space", "codes")
    )
    return History(time_ms, event, space, codes, parts[0].dimension, parts[0].codec)
