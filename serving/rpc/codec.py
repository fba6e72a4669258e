"""Between bytes and the stages' types. What comes in is checked here once; behind this door every query is sound."""

from collections.abc import Sequence
from typing import Any

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
from serving.rpc import packed
from serving.rpc.pb import ranking_pb2 as pb

REQUEST_ID_BYTES = 256
"""The longest request id, in UTF-8."""

MOST_MESSAGE_BYTES = 64 << 20
_LEAST_LIMIT = 4 << 20

# Per candidate beside its features: key and bid. Per request: ids, names, field headers.
_CANDIDATE_BYTES = 16
_REQUEST_BYTES = 4096

_PRIORITIES = {0: Priority.LIVE, **{pb.Priority.Value(f"PRIORITY_{p.name}"): p for p in Priority}}


def parse(payload: bytes) -> Any:
    """The message in `payload`, its numbers still packed; `InvalidRequestError` if there is none."""
    try:
        return packed.read_request(payload)
    except DecodeError:
        raise InvalidRequestError("the payload is not a RankRequest message") from None


def decode(message: Any, vertical: Vertical) -> RankQuery:
    """Check a request against its vertical; the arrays share memory with the message's bytes.

    What callers don't send, the history, is not in the query yet.

    Args:
        message: as `parse` returns it.
        vertical: the one it names.

    Raises:
        InvalidRequestError: the request contradicts the vertical; the message names block, feature, row and limit.
    """
    if len(message.request_id.encode()) > REQUEST_ID_BYTES:
        raise InvalidRequestError(f"request_id is longer than {REQUEST_ID_BYTES} bytes")
    ads = _numbers(message.ad_ids, "<i8", "ad_ids")
    count = len(ads)
    if not 1 <= count <= vertical.max_candidates:
        raise InvalidRequestError(f"{count} candidates; {vertical.name} takes 1 to {vertical.max_candidates}")
    return RankQuery(
        request_id=message.request_id,
        vertical=vertical,
        inputs={each.name: _tensor(message, each, count) for each in vertical.tensors if each.blocks},
        ads=ads,
        bids=_bids(message.bids, count),
        priority=priority_of(message),
    )


def priority_of(message: Any) -> Priority:
    """What the request is for; `InvalidRequestError` for a number that the contract doesn't know."""
    number = message.priority
    if number not in _PRIORITIES:
        raise InvalidRequestError(f"priority is {number}; known are 0 to {max(_PRIORITIES)}")
    return _PRIORITIES[number]


def budget_s(message: Any, vertical: Vertical) -> float:
    """Seconds that the request has from its arrival: the vertical's budget, or less if its caller waits no longer."""
    waits_s = message.timeout_us / 1e6
    return min(waits_s, vertical.budget_s) if waits_s else vertical.budget_s


def _tensor(message: Any, tensor: Tensor, count: int) -> NDArray[np.int64] | NDArray[np.float32]:
    """One model input, [1, w] or [N, w]; joining a single block's bytes copies nothing."""
    rows = count if tensor.blocks[0].side == "ad" else 1
    data = b"".join([_block(message, block, rows) for block in tensor.blocks])
    if tensor.kind == "ids":
        return np.frombuffer(data, "<i8").reshape(rows, tensor.width)
    numbers = np.frombuffer(data, "<f4").reshape(rows, tensor.width)
    if not np.isfinite(numbers).all():
        _refuse_number(tensor, numbers)
    return numbers


def _block(message: Any, block: Block, rows: int) -> bytes:
    features = _features(message, block.side)
    data: bytes = features.ids if block.kind == "ids" else features.numbers
    if len(data) != rows * block.row_bytes:
        raise InvalidRequestError(
            f"block {_label(block.side)}.{block.kind}: expected {rows} x {block.row_bytes} = {rows * block.row_bytes} "
            f"bytes, got {len(data)}"
        )
    return data


def _features(message: Any, side: Side) -> Any:
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


def _numbers(pieces: Sequence[bytes], dtype: str, field: str) -> NDArray[Any]:
    """The numbers of a packed field."""
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) % 8:
        raise InvalidRequestError(f"{field}: {len(data)} bytes are no whole number of 8-byte values")
    return np.frombuffer(data, dtype)


def _bids(pieces: Sequence[bytes], count: int) -> NDArray[np.float64]:
    values = _numbers(pieces, "<f8", "bids")
    if not len(values):
        return np.ones(count)
    if len(values) != count:
        raise InvalidRequestError(f"{len(values)} bids for {count} candidates; give one each, or none at all")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidRequestError(f"bids: row {row} is {values[row]}, not a finite number >= 0")
    return values


def encode(query: RankQuery, answer: Answer, order: Order) -> Any:
    """The response, still without its ledger; the twin of `pb.RankResponse` whose numbers are packed already."""
    model = answer.model or query.vertical
    probability = answer.probability[order.index].astype("<f4", copy=False)
    return packed.RankResponse(
        request_id=query.request_id,
        ad_ids=(query.ads[order.index].astype("<i8", copy=False).tobytes(),),
        expected_values=(order.expected.astype("<f8", copy=False).tobytes(),),
        scores=[
            packed.TaskScores(task=task, probabilities=(probability[:, column].tobytes(),))
            for column, task in enumerate(query.vertical.tasks)
        ],
        tier=answer.tier.value,
        tier_reason=answer.reason,
        model={"name": model.name, "version": model.version},
        unknown_values=answer.unknown,
    )


def enter(response: Any, ledger: Ledger, budget_s: float) -> None:
    """Put the ledger into the response; whole microseconds, spent being the sum of the stages."""
    entry, spent_us = response.ledger, 0
    for name, seconds in ledger.stages:
        duration_us = round(seconds * 1e6)
        entry.stages.add(name=name, duration_us=duration_us)
        spent_us += duration_us
    entry.budget_us, entry.spent_us = round(budget_s * 1e6), spent_us


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
