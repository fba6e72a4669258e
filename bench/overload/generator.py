"""The load generator, a process of its own: `python -m bench.overload.generator ADDRESS POOLS CONNECTIONS`.

It reads one JSON object a line, {"schedule": file, "result": file, "timeout_s": seconds}, says when it starts, sends
that schedule, writes what came back, and says so: one JSON object a line each. Per request it spends as little as a
gRPC call allows: bytes out, and of the bytes that come in only the tier is read.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.overload.messages import load_pools
from loadtest.checking.outcomes import Outcome, of_status, of_tier
from loadtest.driving.open_loop import Reply, drive
from loadtest.driving.rank_target import OPTIONS, RANK
from loadtest.driving.target import LEAST_S
from serving.rpc.pb import ranking_pb2 as pb

START_S = 0.25
"""Between the word that a run starts and its first request."""
NICENESS = -10

Ask = Callable[[bytes, float], Awaitable[int]]


def tier_of(response: bytes) -> int:
    """The number of the tier that made a serialised `RankResponse`."""
    return int(pb.RankResponse.FromString(response).tier)


def outcome_of(answer: int | Exception) -> Outcome:
    """What a call's end means to the figures; an answer of no known tier is a wrong one."""
    if not isinstance(answer, Exception):
        return of_tier(answer) or Outcome.WRONG
    return of_status(answer.code() if isinstance(answer, grpc.aio.AioRpcError) else None)


async def serve(address: str, pools_path: Path, connections: int) -> None:
    """Run one schedule after another until standard input ends."""
    pools = load_pools(pools_path)
    channels = [grpc.aio.insecure_channel(address, options=OPTIONS) for _ in range(connections)]
    asks: list[Ask] = [_ask(channel) for channel in channels]
    gc.collect()
    gc.freeze()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say({"event": "up"})
    async for line in lines:
        await _run(json.loads(line), asks, pools)
    for channel in channels:
        await channel.close()


def _ask(channel: grpc.aio.Channel) -> Ask:
    call: Any = channel.unary_unary(RANK, response_deserializer=tier_of)

    async def ask(message: bytes, timeout_s: float) -> int:
        tier: int = await call(message, timeout=timeout_s)
        return tier

    return ask


async def _run(job: dict[str, Any], asks: list[Ask], pools: dict[int, list[bytes]]) -> None:
    with np.load(job["schedule"]) as saved:
        at_s, stream, candidates = saved["at_s"], saved["stream"], saved["candidates"]
    messages = [pools[size][index % len(pools[size])] for index, size in enumerate(candidates.tolist())]
    timeout_s = float(job["timeout_s"])

    def send(index: int, lateness_s: float) -> Awaitable[int]:
        return asks[index % len(asks)](messages[index], max(timeout_s - lateness_s, LEAST_S))

    gc.disable()
    _say({"event": "start", "at_s": time.monotonic() + START_S})
    spent_s = _cpu_s()
    replies = await drive(send, START_S + at_s)
    spent_s = _cpu_s() - spent_s
    np.savez(job["result"], at_s=at_s, stream=stream, **_columns(replies))
    gc.enable()
    _say({"event": "done", "cpu_s": spent_s})


def _columns(replies: list[Reply[int]]) -> dict[str, Any]:
    return {
        "latency_s": np.array([reply.latency_s for reply in replies]),
        "lateness_s": np.array([reply.lateness_s for reply in replies]),
        "outcome": np.array([outcome_of(reply.answer) for reply in replies], np.str_),
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Its clock is the measurement: an answer that waits for a busy core before it is read isn't late. Not all may.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
