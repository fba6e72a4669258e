"""A real gRPC server whose `RankStream` does what a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from serving.caller.channel import OPTIONS

Answering = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]


@asynccontextmanager
async def channel_to(answering: Answering) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to it, as clients have it; the server ends with the block."""
    handlers: dict[str, Any] = {"RankStream": grpc.stream_stream_rpc_method_handler(answering)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("exfm.ranking.v1.RankingService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        try:
            yield channel
        finally:
            await server.stop(None)
