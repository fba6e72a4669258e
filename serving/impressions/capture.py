"""From an answered request to rows of the impression log: copies a few hundred bytes, since the message goes on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from exfm.events.ids import impression_key
from exfm.events.impression import BLOCKS, Impression
from exfm.features.encoding import MISSING
from exfm.features.schema import Schema
from exfm.features.signature import CANDIDATE_SIDES, REQUEST_SIDES, BlockKind, blocks_of
from serving.admission.priority import Priority
from serving.catalog import Vertical
from serving.ladder.ladder import Answer
from serving.ladder.order import Order
from serving.query import RankQuery

WallClock = Callable[[], int]
"""Milliseconds since the epoch: events carry the time of day, unlike everything that measures."""


def wall_ms() -> int:
    """The time of day, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Cut:
    """Where a block's bytes lie in its tensor's row; an empty tensor name where the block is of width 0."""

    tensor: str
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """How one vertical's tensors fall into blocks.

    Attributes:
        cuts: by block, in the order of `exfm.events.impression.BLOCKS`.
        user: the column of `request_ids` that is the user's key; None if no feature is.
    """

    cuts: Mapping[str, Cut]
    user: int | None

    @classmethod
    def of(cls, schema: Schema) -> "Layout":
        """The layout of a vertical's own schema."""
        cuts = {}
        for label, sides in (("request", REQUEST_SIDES), ("candidate", CANDIDATE_SIDES)):
            kinds: tuple[BlockKind, ...] = ("ids", "numbers")
            for place, kind in enumerate(kinds):
                blocks = [blocks_of(schema, side)[place] for side in sides]
                edges = accumulate((block.row_bytes for block in blocks), initial=0)
                for block, (start, stop) in zip(blocks, pairwise(edges), strict=True):
                    cuts[block.name] = Cut(f"{label}_{kind}" if block.width else "", start, stop)
        return cls({name: cuts[name] for name in BLOCKS}, user_column(schema))


def user_column(schema: Schema) -> int | None:
    """Which column of the user's ids carries the user's key: the id that reads the log's user column, if one does."""
    features = blocks_of(schema, "user")[0].features
    found = [place for place, f in enumerate(features) if f.kind == "id" and f.source == schema.columns.user]
    return found[0] if found else None


class Capture:
    """Makes the rows of one vertical.

    Args:
        vertical: whose answers.
        shown: how many of the best ads of an answer the ad server shows; each is an impression.
        clock: the time of day.
    """

    def __init__(self, vertical: Vertical, shown: int = 1, clock: WallClock = wall_ms) -> None:
        self._vertical = vertical
        self._hash = vertical.schema.digest
        self._layout = Layout.of(vertical.schema)
        self._shown = shown
        self._clock = clock

    def rows(self, query: RankQuery, answer: Answer, order: Order, history: bytes = b"") -> list[Impression]:
        """The shown ads of one answer, best first, with the exact features that were scored.

        Args:
            query: the request.
            answer: its probabilities.
            order: its ranking.
            history: the packed history that went into the scores; empty for none.

        Returns:
            Nothing for shadow requests: nobody sees their ads.
        """
        if query.priority is Priority.SHADOW:
            return []
        request = {name: array.tobytes() for name, array in query.inputs.items() if name.startswith("request")}
        user, time_ms = self._user(query), self._clock()
        made = []
        for place, index in enumerate(order.index[: self._shown].tolist()):
            ad = int(query.ads[index])
            made.append(
                Impression(
                    key=impression_key(query.request_id, ad),
                    request_id=query.request_id,
                    ad=ad,
                    user=user,
                    time_ms=time_ms,
                    vertical=self._vertical.name,
                    version=self._vertical.version,
                    schema_hash=self._hash,
                    tier=answer.tier.name.lower(),
                    reason=answer.reason.value,
                    place=place,
                    bid=float(query.bids[index]),
                    probability=answer.probability[index].astype("<f4").tobytes(),
                    history=history,
                    **self._blocks(query, request, index),
                )
            )
        return made

    def _user(self, query: RankQuery) -> int:
        column = self._layout.user
        return int(MISSING) if column is None else int(query.inputs["request_ids"][0, column])

    def _blocks(self, query: RankQuery, request: dict[str, bytes], index: int) -> dict[str, bytes]:
        candidate = {name: query.inputs[name][index].tobytes() for name in query.inputs if name not in request}
        rows = {"": b"", **request, **candidate}
        return {name: rows[cut.tensor][cut.start : cut.stop] for name, cut in self._layout.cuts.items()}
