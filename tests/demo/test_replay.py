"""Against a real gRPC server that answers as the test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from demo.replay import Load, replay
from demo.requests import Blocks, Request
from exfm.features.signature import blocks_of
from loadtest.selftest.server import SCHEMA, answer, description
from serving.client import InvalidRequestError
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.pb import ranking_pb2_grpc

LOAD = Load(200.0, 20)
ADS = 3


class Servicer(ranking_pb2_grpc.RankingServiceServicer):
    """Refuses the first `refused` requests with `code` and answers the others."""

    def __init__(self, refused: int, code: grpc.StatusCode) -> None:
        self.asked, self._refused, self._code = 0, refused, code

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:  # noqa: N802
        self.asked += 1
        if self.asked <= self._refused:
            await context.abort(self._code, "refused")
        return answer(request)

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


def request() -> Request:
    blocks: Blocks = {}
    for side in ("user", "context", "ad"):
        for block in blocks_of(SCHEMA, side):
            dtype = np.int64 if block.kind == "ids" else np.float32
            blocks[f"{side}_{block.kind}"] = np.zeros((ADS if side == "ad" else 1, block.width), dtype)
    return Request(SCHEMA.verticals[0].name, 7, blocks, np.arange(ADS), np.ones(ADS), np.zeros(1, np.float32))


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_cold_server_may_refuse_the_warm_up(code: grpc.StatusCode) -> None:
    servicer = Servicer(3, code)
    async with running(servicer) as address:
        replayed = await replay(address, [request()], LOAD, lambda: None)
    assert servicer.asked == 2 * LOAD.requests
    assert not [reply for reply in replayed.replies if isinstance(reply.answer, Exception)]


async def test_a_request_that_is_wrong_is_no_cold_server() -> None:
    async with running(Servicer(1, grpc.StatusCode.INVALID_ARGUMENT)) as address:
        with pytest.raises(InvalidRequestError):
            await replay(address, [request()], LOAD, lambda: None)
