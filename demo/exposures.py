"""What users really saw, served once more: every ad is shown, and what became of it is told afterwards."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from demo.replay import call_of
from demo.requests import Request
from demo.server import DemoError
from exfm.features.schema import Schema
from serving.client import DeadlinePassedError, OutcomeCall, OverloadedError, RankingClient
from serving.errors import ServingError

SHOWN = 16
"""Ads per answer that are shown, so at most as many of a user's exposures."""
AT_ONCE, TOLD_AT_ONCE = 2, 500
ASKINGS, PAUSE_S = 5, 0.1
"""Of one request: a machine that is busy with other work refuses some, and what was refused shows nothing."""


def exposures(pool: Sequence[Request]) -> list[Request]:
    """The same requests with the ads alone that the user really saw, whose outcomes are known."""
    made = []
    for request in pool:
        seen = slice(0, min(len(request.outcomes), SHOWN))
        blocks = {name: block[seen] if name.startswith("ad_") else block for name, block in request.blocks.items()}
        made.append(replace(request, blocks=blocks, ads=request.ads[seen], bids=request.bids[seen]))
    return made


async def serve_exposures(
    address: str, requests: Sequence[Request], schema: Schema, name: str, done: Callable[[], object]
) -> int:
    """Have the requests ranked, then tell the positive outcomes; how many were acknowledged as durable.

    Raises:
        DemoError: the server does not take outcomes.
        ServingError: a request was not merely refused for want of room or time.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    async with RankingClient(address) as client:

        async def shown(place: int) -> tuple[str, int] | None:
            async with gate:
                made = await _asked(client, requests[place], f"{name}-{place}")
            done()
            return made

        answered = await asyncio.gather(*(shown(place) for place in range(len(requests))))
        told = [
            outcome
            for request, made in zip(requests, answered, strict=True)
            if made
            for outcome in _positive(request, schema, *made)
        ]
        return await tell(client, told)


async def _asked(client: RankingClient, request: Request, name: str) -> tuple[str, int] | None:
    """The id and the instant (Unix ms) of the request's first answer; None if it was refused at each asking."""
    for asking in range(ASKINGS):
        request_id = f"{name}-{asking}"  # a new one: whether a call that was given up is logged, nobody knows
        with suppress(DeadlinePassedError, OverloadedError):
            await client.rank(call_of(request, request_id), timeout_s=1.0)
            return request_id, time.time_ns() // 1_000_000
        await asyncio.sleep(PAUSE_S)
    return None


async def tell(client: RankingClient, told: Sequence[OutcomeCall]) -> int:
    """Record the outcomes; how many were acknowledged. `DemoError` if the server takes none."""
    batches = [told[at : at + TOLD_AT_ONCE] for at in range(0, len(told), TOLD_AT_ONCE)]
    try:
        return sum([await client.record(batch, timeout_s=5.0) for batch in batches])
    except ServingError as error:
        raise DemoError(f"the server does not take outcomes: {error}") from error


def _positive(request: Request, schema: Schema, request_id: str, time_ms: int) -> list[OutcomeCall]:
    task = schema.vertical(request.vertical).tasks[0]
    clicked = request.ads[np.flatnonzero(request.outcomes[: len(request.ads)] > 0)]
    return [OutcomeCall(request_id, int(ad), task, time_ms=time_ms) for ad in clicked]
