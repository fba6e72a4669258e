"""Outcomes of a call, checked."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.events.ids import impression_key
from serving.errors import InvalidRequestError
from serving.impressions.outcomes import AHEAD_MS, AT_ONCE, EARLIEST_MS, MOST_OUTCOMES, parse_outcomes
from serving.rpc.pb import ranking_pb2 as pb

NOW_MS = 1_700_000_000_123
TASKS = {"click": ["feed"], "buy": ["feed"], "view": ["feed", "reel"]}


def message(**fields: Any) -> bytes:
    sound: dict[str, Any] = {"request_id": "r1", "ad_id": 5, "task": "click", "value": 1.0, "time_ms": NOW_MS}
    return pb.RecordOutcomesRequest(
        outcomes=[pb.Outcome(**sound), pb.Outcome(**{**sound, **fields})]
    ).SerializeToString()


async def test_sound_outcomes_are_taken_as_they_are() -> None:
    first, second = await parse_outcomes(message(task="buy", value=0.0, ad_id=-1), TASKS)
    assert first == (impression_key("feed", "r1", 5), "click", 1.0, NOW_MS)
    assert second == (impression_key("feed", "r1", -1), "buy", 0.0, NOW_MS)
    assert await parse_outcomes(b"", TASKS) == []


async def test_verticals_may_share_request_ids_and_tasks() -> None:
    keys = set()
    for vertical in ("feed", "reel"):
        _, second = await parse_outcomes(message(task="view", vertical=vertical), TASKS)
        assert second.key == impression_key(vertical, "r1", 5)
        keys.add(second.key)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"request_id": ""}, "request_id must be 1 to 256 bytes"),
        ({"request_id": "x" * 257}, "request_id must be 1 to 256 bytes"),
        ({"task": "like"}, "task 'like' is none of buy, click, view"),
        ({"task": "view"}, "vertical must be given: feed, reel have task 'view'"),
        ({"vertical": "reel"}, "vertical 'reel' has no task 'click'; feed has"),
        ({"value": 0.5}, "value is 0.5"),
        ({"value": math.nan}, "value is nan"),
        ({"time_ms": 0}, "time_ms is 0"),
        (
            {"time_ms": NOW_MS // 1000},
            f"time_ms is {NOW_MS // 1000}; it must be in milliseconds since 1970, from 1000000000000 .2001.",
        ),
        ({"time_ms": NOW_MS * 1000}, f"time_ms is {NOW_MS * 1000}; it must be .* to {NOW_MS + AHEAD_MS} .a day ahead"),
        ({"time_ms": NOW_MS + AHEAD_MS + 1}, "time_ms is .*; it must be"),
        ({"time_ms": EARLIEST_MS - 1}, "time_ms is .*; it must be"),
        ({"time_ms": -1}, "time_ms is -1"),
    ],
)
async def test_a_bad_one_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"outcome 1: .*{said}"):
        await parse_outcomes(message(**fields), TASKS, lambda: NOW_MS)


async def test_a_time_may_be_as_old_as_the_millennium_and_a_day_ahead() -> None:
    for time_ms in (EARLIEST_MS, NOW_MS + AHEAD_MS):
        _, second = await parse_outcomes(message(time_ms=time_ms), TASKS, lambda: NOW_MS)
        assert second.time_ms == time_ms


async def test_too_many_are_refused() -> None:
    many = pb.RecordOutcomesRequest(outcomes=[pb.Outcome()] * (MOST_OUTCOMES + 1))
    with pytest.raises(InvalidRequestError, match="at most 10000"):
        await parse_outcomes(many.SerializeToString(), TASKS)


async def test_a_large_call_keeps_the_event_loop_no_longer_than_a_part_of_it() -> None:
    sound = pb.Outcome(request_id="r1", ad_id=5, task="click", value=1.0, time_ms=NOW_MS)
    payload = pb.RecordOutcomesRequest(outcomes=[sound] * MOST_OUTCOMES).SerializeToString()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len(await parse_outcomes(payload, TASKS)) == MOST_OUTCOMES
    counting.cancel()
    assert turns >= MOST_OUTCOMES // AT_ONCE


@given(st.binary(max_size=60))
def test_junk_is_refused_or_empty(payload: bytes) -> None:
    try:
        made = asyncio.run(parse_outcomes(payload, TASKS))
    except InvalidRequestError:
        return
    assert all(each.task in TASKS for each in made)
