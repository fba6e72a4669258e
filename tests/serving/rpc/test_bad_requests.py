"""Bad requests over a real socket, each beside a good one: refused by name, in time, and the good one undisturbed."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.servicer import SERVICE
from tests.serving.bad_requests import BAD, Change

BUDGET_S = 0.2
TRANSPORT_S = 0.1
"""What the caller's side may add to the budget: two ways through the loopback, on a machine with other work."""

OVER_A_SOCKET: dict[str, tuple[Change, str]] = {
    **BAD,
    "unknown vertical": (lambda m: setattr(m, "vertical", "feed_x"), "no vertical 'feed_x' here"),
    "4000 candidates": (lambda m: m.ad_ids.extend(range(3995)), "4000 candidates; feed_click takes 1 to 500"),
    "a megabyte of features": (lambda m: setattr(m.ads, "ids", b"\0" * (1 << 20)), "block ads.ids: expected 5 x 16"),
}


@pytest.fixture
async def address(running: Callable[..., Any], scripted: Any) -> AsyncIterator[str]:
    async with running(scripted()) as (where, _):
        yield where


async def _timed(call: Awaitable[bytes]) -> tuple[Any, float]:
    """The answer or the error, and the seconds that the caller waited."""
    began_s = time.monotonic()
    try:
        answer: Any = await call
    except grpc.aio.AioRpcError as error:
        answer = error
    return answer, time.monotonic() - began_s


def _assert_undisturbed(answer: Any, waited_s: float) -> None:
    assert pb.RankResponse.FromString(answer).tier == pb.TIER_FULL
    assert waited_s <= BUDGET_S + TRANSPORT_S


@pytest.mark.parametrize("case", OVER_A_SOCKET)
async def test_a_bad_request_is_refused_in_time_beside_a_good_one(
    address: str, make_message: Callable[..., pb.RankRequest], case: str
) -> None:
    change, says = OVER_A_SOCKET[case]
    bad = make_message(5)
    change(bad)
    async with grpc.aio.insecure_channel(address) as channel:
        rank: Any = channel.unary_unary(f"/{SERVICE}/Rank")
        await channel.channel_ready()
        good = make_message(5).SerializeToString()
        refused, undisturbed = await asyncio.gather(_timed(rank(bad.SerializeToString())), _timed(rank(good)))
    _assert_undisturbed(*undisturbed)
    error, waited_s = refused
    assert error.code().name == ("NOT_FOUND" if case == "unknown vertical" else "INVALID_ARGUMENT")
    assert re.search(says, error.details())
    assert waited_s <= BUDGET_S + TRANSPORT_S


@pytest.mark.parametrize("preface", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_raw_bytes_on_the_port_disturb_nobody(
    address: str, make_message: Callable[..., pb.RankRequest], preface: bytes
) -> None:
    host, _, port = address.rpartition(":")
    noise = preface + np.random.default_rng(0).bytes(65536)
    async with grpc.aio.insecure_channel(address) as channel:
        rank: Any = channel.unary_unary(f"/{SERVICE}/Rank")
        await channel.channel_ready()
        for _ in range(5):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(noise)
            _assert_undisturbed(*await _timed(rank(make_message(5).SerializeToString())))
            writer.transport.abort()
