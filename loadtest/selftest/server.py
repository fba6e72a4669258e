"""A ranking server without a model, a process of its own: `python -m loadtest.selftest.server STALL_S EVERY_S`.

It answers soundly and at once, except while it stalls, as a process does that collects garbage or swaps: its event loop
stands still. It prints one JSON line when it is ready and serves until its standard input ends.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import numpy as np

from exfm.features.schema import Feature, Schema, Vertical
from loadtest.selftest.stalls import Stalls
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.pb import ranking_pb2_grpc

LEAD_S = 0.5
SCHEMA = Schema(
    "selftest",
    (Feature("user", "user", "id", buckets=10), Feature("ad", "ad", "id", buckets=10)),
    (Vertical("selftest", ("click",), budget_ms=25.0, max_candidates=1000),),
)


class Scripted(ranking_pb2_grpc.RankingServiceServicer):
    """Gives the candidates probabilities by their keys and orders them by expected value."""

    async def Rank(self, request: pb.RankRequest, _: Any) -> pb.RankResponse:  # noqa: N802 named by the contract
        """Rank soundly."""
        return answer(request)

    async def DescribeVertical(  # noqa: N802 named by the contract
        self, request: pb.DescribeVerticalRequest, context: Any
    ) -> pb.DescribeVerticalResponse:
        """Describe the only vertical."""
        if request.vertical != SCHEMA.verticals[0].name:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no vertical {request.vertical!r}")
        return description()


def answer(request: pb.RankRequest) -> pb.RankResponse:
    """A sound answer of the full tier."""
    started_ns = time.monotonic_ns()
    ads = np.array(request.ad_ids, np.int64)
    probability = ((ads * 37 % 100) / 100).astype(np.float32)
    expected = np.array(request.bids, np.float64) * probability
    order = np.argsort(-expected, kind="stable")
    spent_us = (time.monotonic_ns() - started_ns) // 1000
    return pb.RankResponse(
        request_id=request.request_id,
        ad_ids=ads[order].tolist(),
        expected_values=expected[order].tolist(),
        scores=[pb.TaskScores(task="click", probabilities=probability[order].tolist())],
        tier=pb.TIER_FULL,
        model=pb.ModelVersion(name=request.vertical, version=1),
        ledger=pb.Ledger(budget_us=25_000, spent_us=spent_us, stages=[pb.Stage(name="score", duration_us=spent_us)]),
    )


def description() -> pb.DescribeVerticalResponse:
    """What callers are told."""
    vertical = SCHEMA.verticals[0]
    return pb.DescribeVerticalResponse(
        vertical=vertical.name,
        tasks=vertical.tasks,
        budget_ms=vertical.budget_ms,
        max_candidates=vertical.max_candidates,
        schema_hash=SCHEMA.digest,
        schema_json=json.dumps(SCHEMA.to_dict()),
        model=pb.ModelVersion(name=vertical.name, version=1),
        tiers=[pb.TIER_FULL],
    )


async def _stall(stalls: Stalls) -> None:
    while True:
        start_s = stalls.next_s(time.monotonic())
        await asyncio.sleep(start_s - time.monotonic())
        # The end is fixed by the schedule, so that a late start doesn't make the stall longer than the truth says.
        time.sleep(max(start_s + stalls.stall_s - time.monotonic(), 0.0))  # noqa: ASYNC251 standing still is the point


async def _serve(stall_s: float, every_s: float) -> None:
    server = grpc.aio.server()
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(Scripted(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stalls = Stalls(stall_s, every_s, time.monotonic() + LEAD_S)
    stalling = asyncio.create_task(_stall(stalls))
    sys.stdout.write(json.dumps({"address": f"127.0.0.1:{port}", "origin_s": stalls.origin_s}) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    stalling.cancel()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), float(sys.argv[2])))
