"""A real gRPC server that answers as the test says, and a request that it takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from demo.requests import Blocks, Request
from exfm.features.signature import blocks_of
from loadtest.selftest.server import SCHEMA, answer, description
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.pb import ranking_pb2_grpc

ADS = 3
UNSEEN = np.zeros(1, np.float32)


class Servicer(ranking_pb2_grpc.RankingServiceServicer):
    """Refuses the first `refused` requests with `code` and answers the others."""

    def __init__(self, refused: int, code: grpc.StatusCode) -> None:
        self.asked, self._refused, self._code = 0, refused, code
        self.outcomes: list[str] = []

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:  # noqa: N802
        self.asked += 1
        if self.asked <= self._refused:
            await context.abort(self._code, "refused")
        return answer(request)

    async def RecordOutcomes(self, request: pb.RecordOutcomesRequest, _: Any) -> pb.RecordOutcomesResponse:  # noqa: N802
        self.outcomes += [outcome.request_id for outcome in request.outcomes]
        return pb.RecordOutcomesResponse(accepted=len(request.outcomes))

    async def DescribeVertical(self, _: pb.DescribeVerticalRequest, __: Any) -> pb.DescribeVerticalResponse:  # noqa: N802
        described = description()
        described.budget_ms = 2000.0
        return described


@asynccontextmanager
async def running(servicer: Servicer) -> AsyncIterator[str]:
    server = grpc.aio.server()
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def rankable(outcomes: NDArray[np.float32] = UNSEEN) -> Request:
    """A request for three ads; `outcomes` are of the first of them."""
    blocks: Blocks = {}
    for side in ("user", "context", "ad"):
        for block in blocks_of(SCHEMA, side):
            dtype = np.int64 if block.kind == "ids" else np.float32
            blocks[f"{side}_{block.kind}"] = np.zeros((ADS if side == "ad" else 1, block.width), dtype)
    return Request(SCHEMA.verticals[0].name, 7, blocks, np.arange(ADS), np.ones(ADS), outcomes)
