"""The outcomes of a RecordOutcomes call, checked."""

import asyncio
import math
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from exfm.events.ids import impression_key
from exfm.events.outcome import Outcome
from serving.budget.clock import WallClock, wall_ms
from serving.errors import InvalidRequestError
from serving.rpc.codec import REQUEST_ID_BYTES
from serving.rpc.pb import ranking_pb2 as pb

AT_ONCE = 100
"""Outcomes that are checked without a pause, a fifth of a millisecond: rankings on the same event loop don't wait."""
MOST_OUTCOMES = 10_000
"""Outcomes that one call may carry."""
EARLIEST_MS = 10**12
"""September 2001: seconds since 1970, taken for milliseconds, are earlier for another 30,000 years."""
AHEAD_MS = 86_400_000
"""How far a caller's clock may be ahead of the server's; microseconds, taken for milliseconds, are later."""


async def parse_outcomes(
    payload: bytes, tasks: Mapping[str, Sequence[str]], clock: WallClock = wall_ms
) -> list[Outcome]:
    """The outcomes in a `RecordOutcomesRequest`; other work of the event loop goes on meanwhile.

    Args:
        payload: the message.
        tasks: those that some served vertical has, each with the verticals that have it.
        clock: the time of day, which no outcome may be far ahead of.

    Raises:
        InvalidRequestError: none of them is taken; the message names the outcome's index and the field.
    """
    try:
        message = pb.RecordOutcomesRequest.FromString(payload)
    except DecodeError:
        raise InvalidRequestError("the payload is not a RecordOutcomesRequest message") from None
    if len(message.outcomes) > MOST_OUTCOMES:
        raise InvalidRequestError(f"{len(message.outcomes)} outcomes; a call takes at most {MOST_OUTCOMES}")
    made: list[Outcome] = []
    latest_ms = clock() + AHEAD_MS
    for index, each in enumerate(message.outcomes):
        made.append(_outcome(index, each, tasks, latest_ms))
        if not len(made) % AT_ONCE:
            await asyncio.sleep(0)
    return made


def _outcome(index: int, each: pb.Outcome, tasks: Mapping[str, Sequence[str]], latest_ms: int) -> Outcome:
    if problem := _problem(each, tasks, latest_ms):
        raise InvalidRequestError(f"outcome {index}: {problem}")
    vertical = each.vertical or tasks[each.task][0]
    return Outcome(impression_key(vertical, each.request_id, each.ad_id), each.task, each.value, each.time_ms)


def _problem(each: pb.Outcome, tasks: Mapping[str, Sequence[str]], latest_ms: int) -> str:
    if not 1 <= len(each.request_id.encode()) <= REQUEST_ID_BYTES:
        return f"request_id must be 1 to {REQUEST_ID_BYTES} bytes"
    if each.task not in tasks:
        return f"task {each.task[:64]!r} is none of {', '.join(sorted(tasks))}"
    if not math.isfinite(each.value) or each.value not in (0.0, 1.0):
        return f"value is {each.value}; 1 happened, 0 did not"
    if not EARLIEST_MS <= each.time_ms <= latest_ms:
        limits = f"from {EARLIEST_MS} (2001) to {latest_ms} (a day ahead of the server's clock)"
        return f"time_ms is {each.time_ms}; it must be in milliseconds since 1970, {limits}"
    return _misdirected(each, tasks[each.task])


def _misdirected(each: pb.Outcome, having: Sequence[str]) -> str:
    if each.vertical and each.vertical not in having:
        return f"vertical {each.vertical[:64]!r} has no task {each.task!r}; {', '.join(having)} has"
    if not each.vertical and len(having) > 1:
        return f"vertical must be given: {', '.join(having)} have task {each.task!r}"
    return ""
