"""What the frontend adds to a direct Triton call for the same tensors: both calls in turn, one at a time."""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tqdm import tqdm

from bench.overload.generator import tier_of
from bench.overload.plant import BenchError
from loadtest.checking.outcomes import Outcome, of_status
from loadtest.driving.rank_target import RANK
from serving.catalog import Vertical
from serving.features.histories import without_history
from serving.inference.wire import infer_request
from serving.ladder.tier import Tier
from serving.rpc.codec import decode, parse

INFER = "/inference.GRPCInferenceService/ModelInfer"
WARM_UP = 20
PAUSE_S = 0.002
"""Between two calls, so that what one leaves behind isn't the next one's cost."""
_CALL_S = 1.0
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class Frontend:
    """Medians over `calls` pairs; only pairs whose ranking came from the full tier count.

    Attributes:
        frontend_ratio: the median through the frontend over the median of the direct call.
    """

    frontend_ratio: float
    through_ms: float
    direct_ms: float
    calls: int


def measure_frontend(
    address: str, triton: str, vertical: Vertical, messages: Sequence[bytes], calls: int
) -> Frontend | None:
    """Call both in turn `calls` times; None if no ranking came from the full tier. `BenchError` if a call fails."""
    try:
        return asyncio.run(_measure(address, triton, vertical, messages, calls))
    except grpc.aio.AioRpcError as error:
        raise BenchError(f"a call for the frontend's ratio failed: {error.code().name}: {error.details()}") from error


async def _measure(
    address: str, triton: str, vertical: Vertical, messages: Sequence[bytes], calls: int
) -> Frontend | None:
    direct = [
        infer_request(without_history(decode(parse(message), vertical)), _CALL_S).SerializeToString()
        for message in messages
    ]
    pairs: list[tuple[float, float]] = []
    async with (
        grpc.aio.insecure_channel(address, options=_OPTIONS) as ours,
        grpc.aio.insecure_channel(triton, options=_OPTIONS) as theirs,
    ):
        rank: Any = ours.unary_unary(RANK)
        infer: Any = theirs.unary_unary(INFER)
        turns = itertools.islice(itertools.cycle(zip(messages, direct, strict=True)), WARM_UP + calls)
        bar = tqdm(turns, total=WARM_UP + calls, desc="frontend", unit="pair", file=sys.stderr)
        for index, (message, request) in enumerate(bar):
            try:
                through_s, response = await _timed(rank, message)
            except grpc.aio.AioRpcError as error:
                # A machine that halts for a moment makes the server refuse; that is no answer of the full tier.
                if of_status(error.code()) is Outcome.SHED:
                    continue
                raise
            direct_s, _ = await _timed(infer, request)
            if index >= WARM_UP and tier_of(response) == Tier.FULL:
                pairs.append((through_s, direct_s))
    return _medians(pairs)


async def _timed(call: Any, message: bytes) -> tuple[float, bytes]:
    await asyncio.sleep(PAUSE_S)
    start_s = time.monotonic()
    response: bytes = await call(message, timeout=_CALL_S)
    return time.monotonic() - start_s, response


def _medians(pairs: list[tuple[float, float]]) -> Frontend | None:
    if not pairs:
        return None
    through_ms, direct_ms = (float(value) for value in np.median(np.array(pairs), axis=0) * 1e3)
    return Frontend(through_ms / direct_ms, through_ms, direct_ms, len(pairs))
