"""From an answered request to rows of the impression log: copies a few hundred bytes, since the message goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from exfm.events.ids import impression_key
from exfm.events.impression import BLOCKS, Impression
from exfm.features.schema import Schema
from exfm.features.signature import CANDIDATE_SIDES, REQUEST_SIDES, BlockKind, blocks_of
from serving.admission.priority import Priority
from serving.budget.clock import WallClock, wall_ms
from serving.catalog import Vertical
from serving.ladder.ladder import Answer
from serving.ladder.order import Order
from serving.ladder.tier import Tier
from serving.query import RankQuery


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
        request: the tensors that the request's blocks lie in, and
        candidate: the candidates'.
    """

    cuts: Mapping[str, Cut]
    request: tuple[str, ...]
    candidate: tuple[str, ...]

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
        tensors = dict.fromkeys(cut.tensor for cut in cuts.values() if cut.tensor)
        request = tuple(name for name in tensors if name.startswith("request"))
        candidate = tuple(name for name in tensors if name not in request)
        return cls({name: cuts[name] for name in BLOCKS}, request, candidate)


class Capture:
    """Makes the rows of one vertical.

    Args:
        vertical: whose answers.
        shown: how many of the best ads of an answer the ad server shows; each is an impression.
        clock: the time of day.
    """

    def __init__(self, vertical: Vertical, shown: int = 1, clock: WallClock = wall_ms) -> None:
        self._vertical = vertical
        self._hash = vertical.schema.blocks_digest
        self._layout = Layout.of(vertical.schema)
        self._shown = shown
        self._clock = clock

    def rows(self, query: RankQuery, answer: Answer, order: Order) -> list[Impression]:
        """The shown ads of one answer, best first, with the exact features that were scored.

        Args:
            query: the request, with the history that went into the scores.
            answer: its probabilities.
            order: its ranking.

        Returns:
            Nothing for shadow requests: nobody sees their ads.
        """
        if query.priority is Priority.SHADOW:
            return []
        user = query.user
        # A history's ages count from one instant, and only from the same one can it be made again.
        time_ms = query.asked_ms or self._clock()
        model = answer.model or query.vertical
        request = {name: query.inputs[name].tobytes() for name in self._layout.request}
        made = []
        for place, index in enumerate(order.index[: self._shown].tolist()):
            ad, by_prior = int(query.ads[index]), answer.by_prior(index)
            made.append(
                Impression(
                    key=impression_key(self._vertical.name, query.request_id, ad),
                    request_id=query.request_id,
                    ad=ad,
                    user=user,
                    time_ms=time_ms,
                    vertical=self._vertical.name,
                    version=model.version,
                    schema_hash=self._hash,
                    # Behind those that tier trimmed scores, it is the prior that ranks.
                    tier=(Tier.PRIOR if by_prior else answer.tier).name.lower(),
                    reason=answer.reason.value,
                    place=place,
                    bid=float(query.bids[index]),
                    probability=answer.probability[index].astype("<f4").tobytes(),
                    history=b"" if by_prior else query.history,
                    **self._blocks(query, request, index),
                )
            )
        return made

    def _blocks(self, query: RankQuery, request: dict[str, bytes], index: int) -> dict[str, bytes]:
        candidate = {name: query.inputs[name][index].tobytes() for name in self._layout.candidate}
        rows = {"": b"", **request, **candidate}
        return {name: rows[cut.tensor][cut.start : cut.stop] for name, cut in self._layout.cuts.items()}
