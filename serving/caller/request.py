"""A rank request as its caller makes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.admission.priority import Priority
from serving.caller.layout import Features, Layout, Prepared, Row, keys
from serving.errors import InvalidRequestError
from serving.rpc.pb import ranking_pb2 as pb


@dataclass(frozen=True)
class RankCall:
    """What to rank.

    Attributes:
        vertical: the ranking task.
        ad_ids: the candidates, integers or strings.
        ads: their features, one row each: a sequence of rows, or columns by feature name, or prepared bytes.
        user: the user's features by name, or prepared bytes.
        context: the context's features, likewise.
        bids: the value of one positive outcome per candidate; none: every bid is 1.
        request_id: comes back in the ranking, and names the impression in outcomes.
        priority: what the request is for; under overload the first ones go first.
    """

    vertical: str
    ad_ids: Sequence[int | str] | NDArray[np.int64]
    ads: Features
    user: Row | Prepared = field(default_factory=dict)
    context: Row | Prepared = field(default_factory=dict)
    bids: Sequence[float] | NDArray[np.float64] = ()
    request_id: str = ""
    priority: Priority = Priority.LIVE

    def message(self, layout: Layout) -> pb.RankRequest:
        """The request for a vertical of that layout; `InvalidRequestError` if it can't be made."""
        count = len(self.ad_ids)
        if not 1 <= count <= layout.max_candidates:
            raise InvalidRequestError(f"{count} candidates; {layout.name} takes 1 to {layout.max_candidates}")
        return pb.RankRequest(
            request_id=self.request_id,
            vertical=self.vertical,
            user=layout.block("user", _rows(self.user), 1),
            context=layout.block("context", _rows(self.context), 1),
            ads=layout.block("ad", self.ads, count),
            ad_ids=keys(self.ad_ids).tolist(),
            priority=f"PRIORITY_{self.priority.name}",
            bids=np.asarray(self.bids, np.float64).tolist(),
        )

    def names(self) -> Mapping[int, int | str]:
        """The caller's name by key, for candidates that are named by strings."""
        if isinstance(self.ad_ids, np.ndarray):
            return {}
        strings = [ad for ad in self.ad_ids if isinstance(ad, str)]
        return dict(zip(keys(strings).tolist(), strings, strict=True)) if strings else {}


def _rows(features: Row | Prepared) -> Features:
    return features if isinstance(features, Prepared) else [features]
