"""What a history costs inside `Rank`: a real server on a real socket whose vertical reads histories."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.asynchrony.frontend import Prompt, reading
from bench.overload.messages import make_pools
from bench.overload.plant import BenchError
from exfm.features.schema import HistorySpec
from serving.catalog import Catalog, Vertical
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.servicer import SERVICE
from serving.worker import Worker, WorkerOptions

CANDIDATES = 200
GAP_S = 0.005
"""Between two requests."""


def rank_lookups(vertical: Vertical, store: Path, users: Sequence[int], spec: HistorySpec) -> dict[str, float]:
    """p50 and p99 of the ledger's stage `history` in microseconds, and the share of requests that went without.

    Args:
        vertical: any that is published and knows its user; its student is not asked.
        store: folder of the online store.
        users: one per request.
        spec: of the histories in the store.
    """
    return asyncio.run(_measure(reading(vertical, spec), store, users))


async def _measure(vertical: Vertical, store: Path, users: Sequence[int]) -> dict[str, float]:
    messages = _messages(vertical, users)
    catalog = Catalog({vertical.name: vertical})
    options = WorkerOptions(listen="127.0.0.1:0", histories=f"lmdb:{store}")
    worker = Worker(catalog, {"here": {vertical.name: Prompt()}}, options)
    address = f"127.0.0.1:{await worker.start()}"
    try:
        await worker.readiness.wait()
        spent_us = await asyncio.to_thread(_ask, address, messages)
        found: dict[str, int] = worker.state()["histories"]["found"]
    finally:
        await worker.stop()
    p50, p99 = np.quantile(spent_us, [0.5, 0.99])
    without = 1 - found.get("hit", 0) / sum(found.values())
    return {"p50_us": float(p50), "p99_us": float(p99), "missed_share": without, **found}


def _messages(vertical: Vertical, users: Sequence[int]) -> list[bytes]:
    (pool,) = make_pools(vertical, [min(CANDIDATES, vertical.max_candidates)], 16, seed=0).values()
    column, made = vertical.user_column, []
    assert column is not None, f"{vertical.name} does not read the user's key"
    for place, user in enumerate(users):
        message = pb.RankRequest.FromString(pool[place % len(pool)])
        ids = np.frombuffer(message.user.ids, "<i8").copy()
        ids[column] = user
        message.user.ids = ids.tobytes()
        made.append(message.SerializeToString())
    return made


def _ask(address: str, messages: Sequence[bytes]) -> list[int]:
    """Microseconds in the stage, per request that got an answer; on a thread, since the event loop is the server's."""
    spent_us = []
    with grpc.insecure_channel(address) as channel:
        rank: Any = channel.unary_unary(f"/{SERVICE}/Rank", response_deserializer=pb.RankResponse.FromString)
        for message in messages:
            with suppress(grpc.RpcError):  # shed at the door, where the machine has too much else to do
                stages = rank(message, timeout=5.0).ledger.stages
                spent_us += [stage.duration_us for stage in stages if stage.name == "history"]
            time.sleep(GAP_S)
    if not spent_us:
        raise BenchError("no request got an answer")
    return spent_us
