"""What users really saw, served once more: every ad is shown, and what became of it is told afterwards."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import numpy as np

from demo.replay import call_of
from demo.requests import Request
from demo.server import DemoError
from exfm.features.schema import Schema
from serving.client import RankingClient
from serving.errors import ServingError
from serving.rpc.pb import ranking_pb2, ranking_pb2_grpc

SHOWN = 16
"""Ads per answer that are shown, so at most as many of a user's exposures."""
AT_ONCE, TOLD_AT_ONCE = 2, 500


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
    """
    gate = asyncio.Semaphore(AT_ONCE)
    async with RankingClient(address) as client:

        async def rank(place: int) -> int:
            async with gate:
                try:
                    await client.rank(call_of(requests[place], f"{name}-{place}"), timeout_s=1.0)
                except ServingError:  # a request that was refused shows nothing, so there is nothing to tell
                    return 0
                finally:
                    done()
            return time.time_ns() // 1_000_000

        answered = await asyncio.gather(*(rank(place) for place in range(len(requests))))
    told = [
        outcome
        for place, request in enumerate(requests)
        if answered[place]
        for outcome in _positive(request, schema, f"{name}-{place}", answered[place])
    ]
    return await _tell(address, told)


def _positive(request: Request, schema: Schema, request_id: str, time_ms: int) -> list[ranking_pb2.Outcome]:
    task = schema.vertical(request.vertical).tasks[0]
    clicked = request.ads[np.flatnonzero(request.outcomes[: len(request.ads)] > 0)]
    return [
        ranking_pb2.Outcome(request_id=request_id, ad_id=int(ad), task=task, value=1.0, time_ms=time_ms)
        for ad in clicked
    ]


async def _tell(address: str, told: Sequence[ranking_pb2.Outcome]) -> int:
    accepted = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = ranking_pb2_grpc.RankingServiceStub(channel)  # type: ignore[no-untyped-call]
        for at in range(0, len(told), TOLD_AT_ONCE):
            asked = ranking_pb2.RecordOutcomesRequest(outcomes=told[at : at + TOLD_AT_ONCE])
            try:
                accepted += int((await stub.RecordOutcomes(asked, timeout=5.0)).accepted)
            except grpc.aio.AioRpcError as error:
                raise DemoError(f"the server does not take outcomes: {error.details()}") from error
    return accepted
