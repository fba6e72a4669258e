"""The tensor `request_history` of a request: its user's stored embeddings, or zeros."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.history import PackedError, inputs_at, of_spaces, pack, row_of, unpack
from exfm.features.schema import HistorySpec
from exfm.features.signature import HISTORY
from serving.budget.clock import WallClock, wall_ms
from serving.catalog import Vertical
from serving.features.lookup import HistoryLookup
from serving.query import RankQuery

log = logging.getLogger(__name__)


def without_history(query: RankQuery) -> RankQuery:
    """The query as it is scored where nothing is known of its user's past; unchanged if its student reads none."""
    spec = query.vertical.schema.history
    if spec is None:
        return query
    return replace(query, inputs={**query.inputs, HISTORY: np.zeros((1, spec.width), np.float32)})


class Histories:
    """Completes the queries of verticals whose students read histories; of others it knows nothing."""

    def __init__(self, lookup: HistoryLookup | None = None, clock: WallClock = wall_ms) -> None:
        """Without a `lookup`, every history is empty."""
        self._lookup = lookup
        self._clock = clock

    @staticmethod
    def wanted(vertical: Vertical) -> bool:
        """Whether the vertical's student reads one."""
        return vertical.schema.history is not None

    async def complete(self, query: RankQuery, left_s: float) -> RankQuery:
        """The query with its history, read in its share of `left_s`; zeros where there is none, or none in time.

        What the query says it has seen is exactly what the tensor was made of.
        """
        spec = query.vertical.schema.history
        assert spec, "asked for a vertical without histories"
        now_ms, seen = self._clock(), None
        if self._lookup:
            packed = await self._lookup.packed(query.user, left_s)
            seen = self._seen(packed, spec, now_ms) if packed else None
        if seen is None:
            return replace(without_history(query), asked_ms=now_ms)
        row, packed = seen
        return replace(query, inputs={**query.inputs, HISTORY: row}, history=packed, asked_ms=now_ms)

    def start(self) -> None:
        """Begin to look up."""
        if self._lookup:
            self._lookup.start()

    def close(self) -> None:
        """Look up no more."""
        if self._lookup:
            self._lookup.close()

    def state(self) -> Mapping[str, Any] | None:
        """For `/state`: look-ups by how they ended; None without a store."""
        return {"found": dict(self._lookup.found)} if self._lookup else None

    def _seen(self, packed: bytes, spec: HistorySpec, now_ms: int) -> tuple[NDArray[np.float32], bytes] | None:
        """The tensor that a value of the store makes, and what of the value it was made of.

        None if the value is broken, of another width or of other spaces.
        """
        assert self._lookup
        try:
            history = unpack(packed)
            if history.dimension != spec.dimension:
                raise PackedError(f"its embeddings have {history.dimension} values, the student's {spec.dimension}")
        except PackedError as error:
            log.debug("a stored history can't be used: %s", error)
            self._lookup.found_useless("broken")
            return None
        known = of_spaces(history, spec.spaces)
        if len(history) and not len(known):
            self._lookup.found_useless("other_space")
            return None
        row = row_of(inputs_at(known, now_ms, delay_ms=spec.delay_ms, length=spec.length))
        return row, packed if len(known) == len(history) else pack(known)
