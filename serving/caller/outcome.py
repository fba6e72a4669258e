"""What became of a shown ad, as its caller tells it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.budget.clock import wall_ms
from serving.caller.layout import keys
from serving.rpc.pb import ranking_pb2 as pb


@dataclass(frozen=True)
class OutcomeCall:
    """One late label. Telling it again changes nothing.

    Attributes:
        request_id: that of the ranking.
        ad_id: of the shown ad, as in the ranking.
        task: such as a click; one of the vertical's.
        happened: whether it did.
        time_ms: when, milliseconds since the epoch; by default now.
        vertical: the one that ranked; may be left out where only one of the server's has the task.
    """

    request_id: str
    ad_id: int | str
    task: str
    happened: bool = True
    time_ms: int = field(default_factory=wall_ms)
    vertical: str = ""


def outcomes_message(outcomes: Sequence[OutcomeCall]) -> pb.RecordOutcomesRequest:
    """The request that tells them."""
    ads = keys([each.ad_id for each in outcomes]).tolist() if outcomes else []
    return pb.RecordOutcomesRequest(
        outcomes=[
            pb.Outcome(
                request_id=each.request_id,
                ad_id=ad,
                task=each.task,
                value=float(each.happened),
                time_ms=each.time_ms,
                vertical=each.vertical,
            )
            for ad, each in zip(ads, outcomes, strict=True)
        ]
    )
