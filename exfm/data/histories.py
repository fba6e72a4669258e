"""What each row of a log sees of its user's past embeddings: what the online store would have given, for all rows."""

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
    """

    def __init__(self, events: History, user: Ints, time_ms: Ints, spec: HistorySpec) -> None:
        self.spec, self._time_ms = spec, time_ms
        owner = np.unique(user, return_inverse=True)[1].astype(np.int64)
        owner[user == MISSING] = -1
        order = np.lexsort((events.event, events.time_ms, owner))
        counted = events.space != 0
        if spec.spaces:
            counted &= np.isin(events.space, np.array(spec.spaces, np.uint32))
        order = order[(owner[order] >= 0) & counted[order]]
        self._events = events.take(order)
        self._row = np.append(order, -1)  # so that place -1 is row -1
        seen = latest(owner[order], events.time_ms[order], owner, time_ms, delay_ms=spec.delay_ms, length=spec.length)
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
