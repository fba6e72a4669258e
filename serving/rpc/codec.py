"""Between bytes and the stages' types. What comes in is checked here once; behind this door every query is sound."""

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from exfm.features.schema import Side
from exfm.features.signature import Block, Tensor
from serving.admission.priority import Priority
from serving.budget.ledger import Ledger
from serving.catalog import Catalog, Vertical
from serving.errors import InvalidRequestError
from serving.ladder.ladder import Answer
from serving.ladder.order import Order
from serving.query import RankQuery
from serving.rpc.pb import ranking_pb2 as pb

REQUEST_ID_BYTES = 256
"""The longest request id, in UTF-8."""

MOST_MESSAGE_BYTES = 64 << 20
_LEAST_LIMIT = 4 << 20

# Per candidate beside its features: key and bid. Per request: ids, names, field headers.
_CANDIDATE_BYTES = 16
_REQUEST_BYTES = 4096

_PRIORITIES = {0: Priority.LIVE, **{pb.Priority.Value(f"PRIORITY_{p.name}"): p for p in Priority}}


def parse(payload: bytes) -> pb.RankRequest:
    """The message in `payload`; `InvalidRequestError` if there is none."""
    try:
        return pb.RankRequest.FromString(payload)
    except DecodeError:
        raise InvalidRequestError("the payload is not a RankRequest message") from None


def decode(message: pb.RankRequest, vertical: Vertical) -> RankQuery:
    """Check a request against its vertical; the arrays share memory with the message's bytes.

    Raises:
        InvalidRequestError: the request contradicts the vertical; the message names block, feature, row and limit.
    """
    if len(message.request_id.encode()) > REQUEST_ID_BYTES:
        raise InvalidRequestError(f"request_id is longer than {REQUEST_ID_BYTES} bytes")
    count = len(message.ad_ids)
    if not 1 <= count <= vertical.max_candidates:
        raise InvalidRequestError(f"{count} candidates; {vertical.name} takes 1 to {vertical.max_candidates}")
    return RankQuery(
        request_id=message.request_id,
        vertical=vertical,
        inputs={tensor.name: _tensor(message, tensor, count) for tensor in vertical.tensors},
        ads=np.fromiter(message.ad_ids, np.int64, count),
        bids=_bids(message.bids, count),
        priority=_priority(message.priority),
    )


def _priority(number: int) -> Priority:
    if number not in _PRIORITIES:
        raise InvalidRequestError(f"priority is {number}; known are 0 to {max(_PRIORITIES)}")
    return _PRIORITIES[number]


def _tensor(message: pb.RankRequest, tensor: Tensor, count: int) -> NDArray[np.int64] | NDArray[np.float32]:
    """One model input, [1, w] or [N, w]; joining a single block's bytes copies nothing."""
    rows = count if tensor.blocks[0].side == "ad" else 1
    data = b"".join([_block(message, block, rows) for block in tensor.blocks])
    if tensor.kind == "ids":
        return np.frombuffer(data, "<i8").reshape(rows, tensor.width)
    numbers = np.frombuffer(data, "<f4").reshape(rows, tensor.width)
    if not np.isfinite(numbers).all():
        _refuse_number(tensor, numbers)
    return numbers


def _block(message: pb.RankRequest, block: Block, rows: int) -> bytes:
    features = _features(message, block.side)
    data = features.ids if block.kind == "ids" else features.numbers
    if len(data) != rows * block.row_bytes:
        raise InvalidRequestError(
            f"block {_label(block.side)}.{block.kind}: expected {rows} x {block.row_bytes} = {rows * block.row_bytes} "
            f"bytes, got {len(data)}"
        )
    return data


def _features(message: pb.RankRequest, side: Side) -> pb.FeatureBlock:
    if side == "ad":
        return message.ads
    return message.user if side == "user" else message.context


def _label(side: Side) -> str:
    return "ads" if side == "ad" else side


def _refuse_number(tensor: Tensor, values: NDArray[np.float32]) -> None:
    row, column = np.argwhere(~np.isfinite(values))[0]
    features = [feature for block in tensor.blocks for feature in block.features]
    feature = features[column]
    raise InvalidRequestError(
        f"block {_label(feature.side)}.numbers: feature {feature.name!r} in row {row} is {values[row, column]}, "
        f"not a finite number"
    )


def _bids(bids: Sequence[float], count: int) -> NDArray[np.float64]:
    if not bids:
        return np.ones(count)
    if len(bids) != count:
        raise InvalidRequestError(f"{len(bids)} bids for {count} candidates; give one each, or none at all")
    values = np.fromiter(bids, np.float64, count)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidRequestError(f"bids: row {row} is {values[row]}, not a finite number >= 0")
    return values


def encode(query: RankQuery, answer: Answer, order: Order) -> pb.RankResponse:
    """The response, still without its ledger."""
    probability, model = answer.probability[order.index], answer.model or query.vertical
    return pb.RankResponse(
        request_id=query.request_id,
        ad_ids=query.ads[order.index].tolist(),
        expected_values=order.expected.tolist(),
        scores=[
            pb.TaskScores(task=task, probabilities=probability[:, column].tolist())
            for column, task in enumerate(query.vertical.tasks)
        ],
        tier=answer.tier.wire_name,
        tier_reason=answer.reason,
        model=pb.ModelVersion(name=model.name, version=model.version),
        unknown_values=answer.unknown,
    )


def enter(response: pb.RankResponse, ledger: Ledger, budget_s: float) -> None:
    """Put the ledger into the response; whole microseconds, spent being the sum of the stages."""
    stages = [pb.Stage(name=name, duration_us=round(seconds * 1e6)) for name, seconds in ledger.stages]
    spent_us = sum(stage.duration_us for stage in stages)
    response.ledger.CopyFrom(pb.Ledger(budget_us=round(budget_s * 1e6), spent_us=spent_us, stages=stages))


def request_limit(catalog: Catalog) -> int:
    """Bytes of the largest message that a server of these verticals reads.

    Four times what a sound request can have, at least 4 MiB: one with too many candidates shall be told so, at once
    and in our words. At most 64 MiB, unless a sound request needs more.
    """
    sound = max(request_bytes(vertical) for vertical in catalog.values())
    return max(sound * 3 // 2, min(max(4 * sound, _LEAST_LIMIT), MOST_MESSAGE_BYTES))


def request_bytes(vertical: Vertical) -> int:
    """An upper bound on the bytes of a request with the most candidates."""
    fixed = sum(block.row_bytes for block in vertical.blocks if block.side != "ad")
    each = sum(block.row_bytes for block in vertical.blocks if block.side == "ad") + _CANDIDATE_BYTES
    return fixed + vertical.max_candidates * each + _REQUEST_BYTES
